"""Chromium before a server of this checkout, with a worker that runs a study.

Without Chromium or playwright these tests are skipped with the reason, but where CI asks for them they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.access import Role
from hpo_service.service.studies.study_file import read_foreign_study
from hpo_service.settings import Settings

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_MS = 30_000
STUDY = """\
name: watched
description: A study to look at
objective: {python: "tests.browser.objectives:slow_descent"}
space: {parameters: {x: {low: 0.0, high: 1.0}}}
search: {sampler: random, pruner: none, budget: {trials: 1000}}
confirm: {enabled: false}
"""


def _missing() -> str:
    if CHROMIUM is None:
        return "there is no Chromium on this machine: apt-get install chromium"
    try:
        import axe_playwright_python  # noqa: F401
        import playwright.sync_api  # noqa: F401
    except ImportError as error:
        return f"{error.name} is not installed: pip install 'hpo-service[dev]'"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = _missing()
    if reason and not os.environ.get("CI"):
        pytest.skip(reason)
    assert not reason, reason


@dataclass
class Served:
    """A server with a study, a worker at work on it, and an access token of each role."""

    origin: str
    service: Service
    secrets: dict[Role, str]


@dataclass
class Window:
    """A page of a browser, with everything that its console and its network told of."""

    page: Any
    origin: str
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))

    def _hear(self, said: Any) -> None:
        if said.type == "error":
            self.complaints.append(f"{said.text} ({said.location.get('url', '')})")

    def _note(self, url: str) -> None:
        if urlsplit(url).scheme not in ("data", "blob") and not url.startswith(f"{self.origin}/"):
            self.elsewhere.append(url)

    def log_in(self, secret: str) -> None:
        self.page.goto(f"{self.origin}/login")
        self.page.get_by_label("Access token").fill(secret)
        self.page.get_by_role("button", name="Log in").click()
        self.page.get_by_role("heading", name="Studies").wait_for()

    def grave(self) -> list[str]:
        """What axe finds that is serious or critical."""
        session = self.page.context.new_cdp_session(self.page)
        axe = files("axe_playwright_python").joinpath("axe.min.js").read_text()
        # not as a script of the page: its policy would refuse it, as it should
        session.send("Runtime.evaluate", {"expression": axe})
        found = self.page.evaluate("axe.run().then(result => result.violations)")
        return [
            f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in ("serious", "critical")
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    url = f"sqlite:///{folder}/hpo.db"
    service = Service(Settings.read(storage=url))
    service.upgrade()
    service.studies.create(read_foreign_study(STUDY, "study").spec)
    secrets = {role: service.access.issue(f"the {role}", role).secret for role in Role}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HPO_SERVICE_STORAGE": url}
    command = [sys.executable, "-u", "-m", "hpo_service"]
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **streams: Any) -> subprocess.Popen[str]:
        with (folder / f"{arguments[0]}.log").open("w") as log:
            process = subprocess.Popen(
                [*command, *arguments], cwd=folder, env=environment, text=True, stderr=log, **streams
            )
        started.append(process)
        return process

    try:
        server = start("serve", "--port", "0", stdout=subprocess.PIPE)
        start("worker", "--study", "watched", "--output", str(folder / "out"), stdout=subprocess.DEVNULL)
        assert server.stdout is not None
        first = server.stdout.readline()
        yield Served(first.split()[1].rstrip("/"), service, secrets)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60)
        service.db.dispose()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def window(chromium: Any, served: Served) -> Iterator[Window]:
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    opened = Window(context.new_page(), served.origin)
    yield opened
    context.close()
