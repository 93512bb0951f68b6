"""A path has one spelling, and a request one method."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_service.web.door import odd_header, odd_path


@pytest.mark.parametrize("path", ["/", "/v1/studies", "/a%20b", "/v1/%C3%BC", "/a/", "/a.b/c..d", "/~a@b"])
def test_plain_paths_are_let_in(path):
    assert odd_path(path.encode()) is None


DISGUISED = ["/%2e/a", "/a/%2E%2e", "/a%2fb", "/a%5Cb", "/a\\b", "/%25", "/a%00", "/%0a", "/%ff"]


@pytest.mark.parametrize("path", ["", "a", "//", "/a//b", "/./a", "/a/..", *DISGUISED])
def test_odd_paths_are_not(path):
    assert odd_path(path.encode())


def test_nor_are_bytes_that_no_path_has():
    assert odd_path(b"/\xc3\xbc")
    assert odd_path(b"/a b")
    assert odd_path(b"/a?b")


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_a_path_that_is_let_in_has_the_segments_that_it_shows(segments):
    raw = "/" + "/".join(quote(segment, safe="", errors="replace") for segment in segments)
    if odd_path(raw.encode()) is None:
        assert not any(segment in (".", "..") or set(segment) & set("/\\%\0\n") for segment in segments)


def test_headers_that_change_the_method_are_named():
    assert odd_header(["host", "accept"]) is None
    assert "x-http-method-override" in str(odd_header(["Host", "X-HTTP-Method-Override"]))
