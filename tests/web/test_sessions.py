"""Logging in and out, and what a browser's session may be used for."""

from __future__ import annotations

import re

import pytest

from hpo_service.domain.access import Role
from hpo_service.web.authentication import COOKIE
from hpo_service.web.throttle import OVERALL, PER_ADDRESS, WINDOW_SECONDS
from tests.web.asking import Asker

FORM = "application/x-www-form-urlencoded"


def log_in(site, secret: str, asker: Asker | None = None, more: str = ""):
    return (asker or site.stranger)("POST", "/login", f"token={secret}{more}", Content_Type=FORM)


def browser(site, role: Role = Role.OPERATOR) -> Asker:
    answer = log_in(site, site.secrets[role])
    assert answer.status == 303
    return site.stranger.having(Cookie=answer.cookies[0].partition(";")[0])


def token_of(asker: Asker) -> str:
    return asker("GET", "/v1/me").json["csrf_token"]


def test_a_token_opens_a_session_whose_cookie_no_script_reads(site):
    answer = log_in(site, site.secrets[Role.VIEWER])
    (cookie,) = answer.cookies
    assert answer.headers["location"] == "/"
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert browser(site, Role.VIEWER)("GET", "/").status == 200


def test_under_tls_the_cookie_is_for_tls_alone(site):
    over_tls = Asker(site.app, scheme="https")
    assert "Secure" in log_in(site, site.secrets[Role.VIEWER], over_tls).cookies[0]


def test_the_database_holds_no_secret(site, migrated_sqlite):
    cookie = log_in(site, site.secrets[Role.VIEWER]).cookies[0].partition(";")[0].partition("=")[2]
    link = site.service.access.link(Role.ADMIN).secret
    file = migrated_sqlite.removeprefix("sqlite:///")
    from pathlib import Path

    stored = b"".join(path.read_bytes() for path in Path(file).parent.glob("study.db*"))
    for secret in [*site.secrets.values(), cookie, link]:
        assert secret.rpartition("_")[2].encode() not in stored


@pytest.mark.parametrize("secret", ["", "x", "hpo_00000000_" + "0" * 48, "hpo_ü_x", "a" * 200, "hpo__", "%00"])
def test_nobody_logs_in_with_what_is_no_token(site, secret):
    answer = log_in(site, secret)
    assert answer.status in {401, 422}
    assert not answer.cookies


def test_a_session_is_no_token_and_a_token_no_session(site):
    cookie = log_in(site, site.secrets[Role.VIEWER]).cookies[0].partition(";")[0].partition("=")[2]
    assert site.stranger.by(cookie)("GET", "/v1/me").status == 401
    assert site.stranger.having(Cookie=f"{COOKIE}={site.secrets[Role.VIEWER]}")("GET", "/v1/me").status == 401


def test_a_wrong_token_is_refused_though_a_session_would_do(site):
    assert browser(site).by("hpo_00000000_00")("GET", "/v1/me").status == 401


def test_a_browser_changes_something_only_with_the_token_of_our_page(site):
    asker = browser(site)
    assert asker("POST", "/v1/studies/mine/pause").status == 403
    assert asker("POST", "/v1/studies/mine/pause", X_CSRF_Token="wrong").status == 403
    another = token_of(browser(site))
    assert asker("POST", "/v1/studies/mine/pause", X_CSRF_Token=another).status == 403
    assert asker("POST", "/v1/studies/mine/pause", X_CSRF_Token=token_of(asker)).status == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}, {"Origin": "null"}]
)
def test_nor_from_another_sites_page_with_any_token(site, headers):
    asker = browser(site)
    assert asker("POST", "/v1/studies/mine/pause", X_CSRF_Token=token_of(asker), **headers).status == 403


def test_another_site_cannot_log_a_browser_in(site):
    answer = log_in(site, site.secrets[Role.VIEWER], site.stranger.having(Origin="http://evil.example"))
    assert answer.status == 403
    assert not answer.cookies


def test_logging_out_ends_the_session(site):
    asker = browser(site)
    assert asker("POST", "/logout").status == 403
    answer = asker("POST", "/logout", f"csrf_token={token_of(asker)}", Content_Type=FORM)
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    assert asker("GET", "/v1/me").status == 401


def test_revoking_a_token_ends_its_sessions(site):
    asker = browser(site)
    (id,) = [row["id"] for row in site.admin("GET", "/v1/tokens").json if row["role"] == Role.OPERATOR]
    assert site.admin("DELETE", f"/v1/tokens/{id}").json["revoked_at"] is not None
    assert asker("GET", "/v1/me").status == 401
    assert site.operator("GET", "/v1/me").status == 401


def test_a_token_that_has_expired_is_none(site):
    short = site.service.access.issue("short", Role.VIEWER, seconds=-1.0)
    assert site.stranger.by(short.secret)("GET", "/v1/me").status == 401
    assert log_in(site, short.secret).status == 401


def test_a_session_ends_with_its_token(site):
    issued = site.service.access.issue("for an hour", Role.VIEWER, seconds=3600.0)
    session = site.service.access.open_session(issued.secret)
    assert session.row.expires_at == pytest.approx(issued.row.expires_at)


def test_a_link_logs_in_once(site):
    code = site.service.access.link(Role.ADMIN).secret
    answer = site.stranger("GET", f"/login?code={code}")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    asker = site.stranger.having(Cookie=answer.cookies[0].partition(";")[0])
    assert asker("GET", "/v1/me").json["role"] == Role.ADMIN
    again = site.stranger("GET", f"/login?code={code}")
    assert again.status == 401
    assert not again.cookies
    assert "used before" in again.text


@pytest.mark.parametrize("path", ["//evil.example", "http://evil.example", "/\\evil.example", "javascript:x", "/a\nb"])
def test_logging_in_leads_to_no_other_site(site, path):
    from urllib.parse import quote

    answer = log_in(site, site.secrets[Role.VIEWER], more=f"&next={quote(path, safe='')}")
    assert answer.headers["location"] == "/"


def test_logging_in_leads_back_to_the_page_that_was_asked_for(site):
    asked = site.stranger("GET", "/dashboard/studies/1?x=1", Accept="text/html")
    assert asked.status == 303
    found = re.fullmatch(r"/login\?next=(.*)", asked.headers["location"])
    assert found
    answer = log_in(site, site.secrets[Role.VIEWER], more=f"&next={found[1]}")
    assert answer.headers["location"] == "/dashboard/studies/1?x=1"


def test_a_thousand_wrong_logins_are_slowed_down_and_change_nothing(site):
    statuses = [log_in(site, f"hpo_{n:08x}_{n:048x}").status for n in range(1000)]
    assert statuses == [401] * PER_ADDRESS + [429] * (1000 - PER_ADDRESS)
    refused = log_in(site, site.secrets[Role.VIEWER])
    assert refused.status == 429
    assert 0 < int(refused.headers["retry-after"]) <= WINDOW_SECONDS
    site.clock.now += WINDOW_SECONDS
    assert log_in(site, site.secrets[Role.VIEWER]).status == 303


def test_from_many_addresses_as_well(site):
    asked = [Asker(site.app, address=f"10.1.{n // 250}.{n % 250}") for n in range(2 * OVERALL)]
    statuses = [log_in(site, "hpo_00000000_00", asker).status for asker in asked]
    assert statuses == [401] * OVERALL + [429] * OVERALL


def test_wrong_tokens_are_counted_too_but_right_ones_are_served_all_the_same(site):
    wrong = site.stranger.by("hpo_00000000_00")
    statuses = [wrong("GET", "/v1/me").status for _ in range(PER_ADDRESS + 5)]
    assert statuses == [401] * PER_ADDRESS + [429] * 5
    assert site.viewer("GET", "/v1/me").status == 200


def test_when_a_token_was_used_last_is_known(site):
    site.viewer("GET", "/v1/me")
    rows = {row["role"]: row for row in site.admin("GET", "/v1/tokens").json}
    assert rows["viewer"]["used_at"] is not None
    assert rows["operator"]["used_at"] is None or rows["operator"]["used_at"] > 0


def test_names_in_pages_are_escaped(site):
    odd = site.service.access.issue("<script>alert(1)</script>", Role.VIEWER)
    answer = log_in(site, odd.secret)
    asker = site.stranger.having(Cookie=answer.cookies[0].partition(";")[0])
    assert "<script>alert" not in asker("GET", "/").text
