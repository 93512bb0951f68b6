"""Who may what: every route of ours and of optuna-dashboard, walked from their own tables, by every role."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import inspect, text

from hpo_service.domain.access import Role
from hpo_service.web.dashboard.route import PREFIXES, Dashboard
from hpo_service.web.routes import ROUTES, Route
from tests.web.conftest import on_both, study_file

ROLES = [None, *Role]
FILLING = {"name": "mine", "stage": "search", "number": "0", "id": "w1", "kind": "csv", "act": "drain"}
SECRET_OR_NOT = [route for route in ROUTES if route.least is not None]
READING = {"GET", "HEAD"}
REFUSED = {401, 403}


def path_of(route: Route) -> str:
    filled = route.path.format(**FILLING)
    return "/assets/style.css" if filled.startswith("/assets/") else filled


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


def dashboard_of(site) -> Dashboard:
    (found,) = [route for route in site.app.app.router.routes if isinstance(route, Dashboard)]
    return found


def their_routes(site) -> Iterator[tuple[str, str]]:
    """Method and path of every route that optuna-dashboard has."""
    for route in dashboard_of(site).bottle.routes:
        path = re.sub(r"<[^:>]*:re:\(/\.\*\)\?>", "", route.rule)
        path = re.sub(r"<[^>]*artifact_id[^>]*>", "abc-1", path)
        path = re.sub(r"<[^>]*filename[^>]*>", "bundle.js", path)
        yield route.method, re.sub(r"<[^>]*>", "1", path)


def tables(site) -> dict[str, list]:
    """Everything that is in the database but when tokens were used."""
    with site.service.db.transaction(read_only=True):
        connection = site.service.db.connection
        kept = sorted({*inspect(connection).get_table_names()} - {"hpo_access_token"})
        return {name: connection.execute(text(f"SELECT * FROM {name}")).all() for name in kept}


def test_the_application_has_the_routes_of_the_table_and_no_others(site):
    routes = [route for route in site.app.app.router.routes if not isinstance(route, Dashboard)]
    assert [(*route.methods, route.path) for route in routes] == [(route.method, route.path) for route in ROUTES]


def test_what_strangers_may_is_logging_in_and_asking_whether_the_server_lives():
    assert {(route.method, route.path) for route in ROUTES if route.least is None} == {
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("HEAD", "/healthz"),
        ("HEAD", "/readyz"),
        ("GET", "/assets/{name}"),
        ("GET", "/login"),
        ("POST", "/login"),
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_route_is_open_from_its_least_role_on(site, role):
    before = tables(site)
    for route in ROUTES:
        answer = site.of(role)(route.method, path_of(route))
        if route.least is None or (role is not None and role.allows(route.least)):
            assert answer.status not in REFUSED, named(route)
            assert answer.status < 500, named(route)
            before = tables(site)
        else:
            assert answer.status == (401 if role is None else 403), named(route)
            assert answer.headers["content-type"] == "application/problem+json"
            assert tables(site) == before, named(route)


SPELLINGS = {
    "doubled slash": lambda path: "/" + path,
    "doubled slash inside": lambda path: path[0] + path[1:].replace("/", "//") if "/" in path[1:] else path + "//",
    "encoded slash": lambda path: "/" + path[1:].replace("/", "%2f") if "/" in path[1:] else "/%2f" + path[1:],
    "doubly encoded slash": lambda path: "/" + path[1:].replace("/", "%252F") + "%252F",
    "backslash": lambda path: path.replace("/", "\\"),
    "encoded backslash": lambda path: "/x%5c.." + path,
    "parent": lambda path: "/login/.." + path,
    "encoded parent": lambda path: "/login/%2e%2e" + path,
    "half encoded parent": lambda path: "/login/.%2E" + path,
    "here": lambda path: "/." + path,
    "parameter": lambda path: "/login;/.." + path,
    "below what is open": lambda path: "/assets/../" + path[1:],
    "null": lambda path: path + "%00",
    "another case": lambda path: path.upper() + "X",
    "trailing slash": lambda path: path + "/",
    "full address": lambda path: "http://testserver" + path,
}


def test_no_spelling_of_a_path_opens_it(site):
    before = tables(site)
    ours = [(route.method, path_of(route)) for route in SECRET_OR_NOT]
    for (method, path), spelling in itertools.product([*ours, *their_routes(site)], SPELLINGS.values()):
        odd = spelling(path)
        answer = site.stranger(method, odd)
        assert answer.status in {400, 401, 404, 405}, (method, odd)
    assert tables(site) == before


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override"])
def test_no_header_makes_another_method_of_a_request(site, header):
    before = tables(site)
    for method, path in [("GET", "/v1/studies/mine"), ("POST", "/api/studies/1"), ("GET", "/api/studies/1")]:
        answer = site.viewer.having(**{header.replace("-", "_"): "DELETE"})(method, path)
        assert answer.status == 400
    assert tables(site) == before


def test_a_method_in_the_query_or_the_body_is_none(site):
    before = tables(site)
    assert site.viewer("GET", "/v1/studies/mine?_method=DELETE").status == 200
    assert site.admin("POST", "/v1/studies/mine", "_method=DELETE").status == 405
    assert tables(site) == before


@pytest.mark.parametrize("writes", [False, True], ids=["showing", "writing"])
@pytest.mark.parametrize("role", ROLES)
def test_every_route_of_optuna_dashboard_is_behind_the_door(sites, role, writes):
    site = sites(allow_dashboard_writes=writes)
    seen = 0
    for method, path in their_routes(site):
        before = tables(site)
        inside = path.split("/")[1] in PREFIXES
        answer = site.of(role)(method, path)
        seen += inside
        if not inside:
            # its first page and its icon are ours; its schema is our migrations'; the rest is nobody's
            assert answer.status in ({401, 200} if path in ("/", "/favicon.ico") else {404}), path
        elif role is None:
            assert answer.status == 401, (method, path)
        elif method in READING:
            assert answer.status not in REFUSED, (method, path)
        elif not writes or path.startswith("/api/artifacts"):
            assert answer.status == 405, (method, path)
        elif not role.allows(Role.OPERATOR):
            assert answer.status == 403, (method, path)
        else:
            assert answer.status not in REFUSED, (method, path)
            continue
        assert tables(site) == before, (method, path)
    assert seen > 20


@on_both
def test_optuna_dashboard_shows_the_studies(site):
    site.run("mine")
    (summary,) = site.viewer("GET", "/api/studies").json["study_summaries"]
    assert summary["study_name"] == "mine/search"
    detail = site.viewer("GET", f"/api/studies/{summary['study_id']}").json
    assert [trial["state"] for trial in detail["trials"]] == ["Complete"]
    page = site.viewer("GET", "/dashboard")
    assert page.status == 200
    assert "bundle.js" in page.text
    assert "'unsafe-inline'" not in page.headers["content-security-policy"].partition("script-src")[2].split(";")[0]
    script = site.viewer("GET", "/static/bundle.js")
    assert (script.status, script.headers["cache-control"]) == (200, "private, max-age=3600")
    assert site.viewer("GET", f"/csv/{summary['study_id']}").status == 200


def test_what_reads_in_optuna_dashboard_cannot_write_whatever_it_calls(site):
    from hpo_service.errors import ConflictError

    storage = site.service.projection(writes=False)
    with pytest.raises(ConflictError, match="not changed"):
        storage.delete_study(1)
    with pytest.raises(ConflictError, match="not changed"):
        storage.set_study_user_attr(1, "note", "x")


def test_every_method_of_optunas_storage_that_writes_refuses():
    from optuna.storages import BaseStorage

    from hpo_service.search.projection import WRITES

    reading = ("get_", "can_", "check_", "remove_session", "is_heartbeat", "fail_stale")
    public = {name for name in vars(BaseStorage) if not name.startswith("_") and not name.startswith(reading)}
    assert public <= set(WRITES), public - set(WRITES)


def test_an_operator_writes_notes_where_the_start_allowed_it(sites):
    site = sites(allow_dashboard_writes=True)
    site.operator(
        "POST", "/v1/studies", "name: a\nobjective: {python: 'a:b'}\nspace: {parameters: {x: {low: 0, high: 1}}}"
    )
    note = {"body": "look at this", "version": 1}
    assert site.operator("PUT", "/api/studies/1/note", note).status == 204
    assert site.viewer("PUT", "/api/studies/1/note", note).status == 403


def test_a_browser_writes_in_optuna_dashboard_from_its_own_pages_alone(sites):
    site = sites(allow_dashboard_writes=True)
    site.operator("POST", "/v1/studies", study_file())
    cookie = site.stranger(
        "POST", "/login", f"token={site.secrets[Role.OPERATOR]}", Content_Type="application/x-www-form-urlencoded"
    ).cookies[0]
    browser = site.stranger.having(Cookie=cookie.partition(";")[0])
    for headers in ({}, {"Origin": "http://elsewhere"}, {"Sec_Fetch_Site": "cross-site"}):
        assert browser("DELETE", "/api/studies/1", {}, **headers).status == 403
    assert browser("DELETE", "/api/studies/1", {}, Origin="http://testserver").status == 204
