"""Requests that nobody means well or that a machine made up: a clear refusal, and nothing changed."""

from __future__ import annotations

import itertools
import json

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from hpo_service.domain.access import Role
from hpo_service.web.door import MAX_BODY_BYTES, MAX_PATH_BYTES
from hpo_service.web.routes import ROUTES
from tests.web.conftest import on_both, study_file
from tests.web.test_roles import tables

BODIES = {
    "nothing": b"",
    "null": b"null",
    "a number": b"1e999",
    "a long number": b"9" * 5000,
    "a list": b"[1, 2]",
    "a text": b'"name: x"',
    "no UTF-8": b"\xff\xfe\x00",
    "another encoding": "name: ü".encode("utf-16"),
    "zeros": b"\x00" * 100,
    "deep JSON": b"[" * 50_000,
    "deep objects": b'{"a":' * 10_000,
    "aliases of aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"\n".join(
        b"%c: &%c [%s]" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 9)) for letter in range(98, 110)
    ),
    "a surrogate": b'{"name": "\\ud800"}',
    "a key twice": b'{"name": "a", "name": "b"}',
    "a tag": b"!!python/object/apply:os.system ['touch /tmp/never']",
    "a directive": b"%YAML 9.9\n---\nname: a\n",
    "a null name": json.dumps({"name": "a\x00b"}).encode(),
    "a path as a name": b"name: ../../etc/passwd\nobjective: {python: 'a:b'}\n",
}  # fmt: skip


KINDS = ("application/json", "application/yaml", "text/plain", "")


@pytest.mark.parametrize("body", BODIES)
def test_what_is_no_study_file_is_refused_whatever_kind_it_is_called(site, body):
    before = tables(site)
    for kind, path in itertools.product(KINDS, ("/v1/studies", "/v1/validate")):
        answer = site.operator("POST", path, BODIES[body], Content_Type=kind)
        assert answer.status == 422, (kind, answer.body)
        assert answer.headers["content-type"] == "application/problem+json"
    assert tables(site) == before


@pytest.mark.parametrize("path", ["/v1/studies", "/v1/studies/mine/pause", "/v1/validate"])
def test_a_giant_body_is_refused_before_it_is_read(site, path):
    answer = site.operator("POST", path, b"#" * (MAX_BODY_BYTES + 1), Content_Type="application/yaml")
    assert answer.status == 413
    lied = site.operator("POST", path, b"#" * (MAX_BODY_BYTES + 1), Content_Type="text/plain", content_length="1")
    assert lied.status == 413
    assert len(lied.body) < 1000


def test_strangers_bodies_are_not_even_read(site):
    assert site.stranger("POST", "/v1/studies", b"[" * 1000, Content_Type="application/json").status == 401


def test_a_giant_path_is_refused(site):
    assert site.viewer("GET", "/v1/studies/" + "a" * MAX_PATH_BYTES).status == 400


ODD_REASONS = (
    b"{", b"[]", b"3", b'{"reason": 3}', b'{"reason": "a\\u0000b"}', b'{"reason": "\\ud800"}',
    b'{"reason": "' + b"a" * 501 + b'"}', b'{"other": 1}',
)  # fmt: skip


@pytest.mark.parametrize("verb", ["pause", "trials/search/0/stop"])
def test_an_odd_reason_is_refused_and_none_is_needed(site, verb):
    site.claim("mine")
    before = tables(site)
    for body in ODD_REASONS:
        answer = site.operator("POST", f"/v1/studies/mine/{verb}", body, Content_Type="application/json")
        assert answer.status == 422, body
    assert tables(site) == before
    assert site.operator("POST", f"/v1/studies/mine/{verb}", b"", Content_Type="application/json").status == 200


def test_names_that_are_paths_are_refused(site):
    for name in ("%2e%2e", "..", "a%2fb", "%00", "%ff", "a%0ab", "a\\b", "a%5cb", "%252e"):
        for path in (f"/v1/studies/{name}", f"/v1/studies/{name}/report.html", f"/assets/{name}", f"/static/{name}"):
            assert site.admin("GET", path).status == 400, path


@pytest.mark.parametrize("name", ["x' OR '1'='1", "mine'; DROP TABLE hpo_study; --", "%", "mine*", "MINE"])
def test_names_that_are_sql_are_names_of_nothing(site, name):
    from urllib.parse import quote

    before = tables(site)
    answer = site.admin("DELETE", f"/v1/studies/{quote(name)}")
    assert answer.status in {400, 404}
    assert tables(site) == before


def test_no_other_file_of_the_package_is_given_out(site):
    for name in ("style.css.map", "page.py", "__init__.py", "layout.html", "%70age.py"):
        assert site.admin("GET", f"/assets/{name}").status == 404, name


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Basic YTpi", "bearer  x", "Bearer \u00e9", "Bearer " + "a" * 9000]
)
def test_odd_authorization_lets_nobody_in(site, authorization):
    assert site.stranger.having(Authorization=authorization)("GET", "/v1/me").status == 401


def test_a_key_that_no_header_can_hold_is_refused(site):
    for key in ("", "a" * 201, "with space"):
        answer = site.operator("POST", "/v1/studies", study_file("keyed"), Idempotency_Key=key)
        assert answer.status == 422


def test_every_answer_has_the_headers_that_keep_browsers_safe(site):
    asked = [
        ("GET", "/login"),
        ("GET", "/v1/studies"),
        ("GET", "/nowhere"),
        ("GET", "//"),
        ("GET", "/dashboard"),
        ("GET", "/api/studies"),
    ]
    for asker in (site.stranger, site.viewer):
        for method, path in asked:
            headers = asker(method, path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["cache-control"]


@pytest.fixture
def openapi(site):
    site.run("mine")
    return schemathesis.openapi.from_asgi(
        "/v1/openapi.json", site.app, headers={"Authorization": f"Bearer {site.secrets[Role.VIEWER]}"}
    )


@on_both
def test_nothing_that_the_openapi_document_allows_makes_a_mistake_or_an_answer_outside_it(site, openapi):
    headers = {"Authorization": f"Bearer {site.secrets[Role.ADMIN]}"}
    asked = 0
    for found in openapi.get_all_operations():
        operation = found.ok()

        @settings(max_examples=5, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def ask(case):
            site.clock.now += 3600  # it tries wrong tokens too, which are counted
            # that a body is YAML says not yet that it is a study
            case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

        ask()
        asked += 1
    assert asked == sum(route.shown for route in ROUTES)
