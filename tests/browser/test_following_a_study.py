"""A live study as people see it: followed, paused and resumed in Chromium, with nothing wrong on the way."""

from __future__ import annotations

import itertools
import re

import pytest

from hpo_service.domain.access import Role
from tests.browser.conftest import Served, Window

pytestmark = pytest.mark.xdist_group("browser")

PAGES = ["/", "/studies/watched", "/studies/watched/trials", "/studies/watched/trials/search/0", "/workers"]
ASKING = ["/studies/watched/acts/cancel", "/workers/{worker}/acts/drain"]


def clean(window: Window) -> None:
    assert window.complaints == []
    assert window.elsewhere == []


def test_a_viewer_follows_a_live_study_from_the_overview_to_optuna_dashboards_plots(served: Served, window: Window):
    page = window.page
    window.log_in(served.secrets[Role.VIEWER])
    page.get_by_role("link", name="watched").click()
    running = page.locator("[id^=to-running-]").first
    running.wait_for()
    assert page.get_by_role("link", name="Pause").count() == 0
    # it refreshes by itself: the share that is done grows while nobody touches the page
    share = page.locator("[id^=running-] td[data-head=Progress]").first
    before = share.inner_text()
    page.wait_for_function(
        "text => document.querySelector('[id^=running-] td[data-head=Progress]')?.innerText !== text", arg=before
    )
    assert page.locator("svg.spark").count() > 0
    # where somebody is in the page stays as it is
    running = page.locator("[id^=to-running-]").first
    running.focus()
    focused = running.get_attribute("id")
    with page.expect_response(lambda answer: answer.url.endswith("/studies/watched")):
        pass
    page.wait_for_timeout(100)
    assert page.evaluate("document.activeElement.id") in (focused, "")
    page.locator("[id^=to-running-]").first.click()
    page.locator("#figure-curve svg").wait_for()
    clean(window)
    page.get_by_role("link", name="In optuna-dashboard").click()
    page.get_by_text(re.compile("Trial 0")).first.wait_for()
    page.goto(re.sub(r"/trials.*", "", page.url))
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    clean(window)


def test_an_operator_pauses_and_resumes_from_the_page_and_is_asked_once(served: Served, window: Window):
    page = window.page
    window.log_in(served.secrets[Role.OPERATOR])
    page.goto(f"{served.origin}/studies/watched")
    page.get_by_role("link", name="Pause").click()
    page.get_by_label("Reason").fill("a look at <b>it</b>")
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("a look at <b>it</b>").first.wait_for()
    assert served.service.reader.snapshot("watched").state == "paused"
    page.get_by_text("None at the moment.").wait_for()
    page.get_by_role("link", name="Resume").click()
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("resumed by the operator").first.wait_for()
    page.locator("[id^=to-running-]").first.wait_for()
    assert served.service.reader.snapshot("watched").state == "active"
    clean(window)


def test_a_hidden_page_asks_for_nothing(served: Served, window: Window):
    page = window.page
    window.log_in(served.secrets[Role.VIEWER])
    page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => window.looksAway === true})")
    page.goto(f"{served.origin}/studies/watched")
    page.locator("#pictures[data-live]").wait_for()
    page.evaluate("window.looksAway = true")
    page.wait_for_timeout(500)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4000)
    assert asked == []
    with page.expect_request("**/studies/watched"):
        page.evaluate("window.looksAway = false; document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize("width,scheme", list(itertools.product([1400, 420], ["light", "dark"])))
def test_every_page_fits_the_window_and_axe_finds_nothing_serious(chromium, served: Served, width: int, scheme: str):
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    window = Window(context.new_page(), served.origin)
    worker = served.service.workers.list_all().workers[0].id
    try:
        window.page.goto(f"{served.origin}/login")
        assert (window.grave(), window.overflow()) == ([], 0)
        window.log_in(served.secrets[Role.OPERATOR])
        for path in [*PAGES, *(each.format(worker=worker) for each in ASKING)]:
            window.page.goto(served.origin + path)
            if path == "/studies/watched":
                window.page.locator("#pictures[data-live]").wait_for()
            assert (path, window.grave(), window.overflow()) == (path, [], 0)
        clean(window)
    finally:
        context.close()


def test_the_keyboard_reaches_the_content_and_the_acts(served: Served, window: Window):
    page = window.page
    window.log_in(served.secrets[Role.OPERATOR])
    page.goto(f"{served.origin}/studies/watched")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert "act-cancel" in reached
