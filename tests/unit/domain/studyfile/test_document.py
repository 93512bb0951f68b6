"""YAML as data with lines: what numbers and words mean, and each way a text can fail to be YAML."""

from __future__ import annotations

import datetime
import math

import pytest

from hpo_service.domain.studyfile.document import Complaint, dotted, parse_document, refuse
from hpo_service.errors import StudyFileError


def data(text: str) -> dict:
    return parse_document(text, "f.yaml").data


def refused(text: str) -> str:
    with pytest.raises(StudyFileError) as error:
        parse_document(text, "f.yaml")
    assert error.value.file == "f.yaml"
    return str(error.value)


@pytest.mark.parametrize(
    "written, read",
    [
        ("5e-4", 0.0005),
        ("1e4", 10_000),
        ("1e+4", 10_000),
        ("1e16", 1e16),
        ("2.5e3", 2500.0),
        ("1_000", 1000),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-0.5", -0.5),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("~", None),
        ("", None),
        ("2026-11-21", "2026-11-21"),
        ("'1e-4'", "1e-4"),
    ],
)
def test_yaml_1_2_scalars(written, read):
    value = data(f"a: {written}")["a"]
    assert value == read
    assert type(value) is type(read)
    assert not isinstance(value, datetime.date)


def test_not_a_number_is_read_as_such():
    assert math.isnan(data("a: .nan")["a"])


def test_every_key_and_item_knows_its_line():
    document = parse_document("# a comment\na:\n  b: 1\n  c:\n    - 2\n    - {d: 3}\n", "f.yaml")
    assert document.data == {"a": {"b": 1, "c": [2, {"d": 3}]}}
    assert document.lines[()] == 2
    assert document.lines["a", "c", 1, "d"] == 6
    assert document.complaint(("a", "b"), "m").line == 3
    assert document.complaint(("a", "missing", "deeper"), "m").line == 2
    assert document.complaint(("missing",), "m").line == 2


def test_merged_keys_give_way_to_keys_of_their_own():
    text = "base: &base {x: 1, y: 2}\nmore: &more {z: 5}\none:\n  y: 3\n  <<: *base\ntwo: {<<: [*base, *more]}\n"
    document = parse_document(text, "f.yaml")
    assert document.data["one"] == {"x": 1, "y": 3}
    assert document.data["two"] == {"x": 1, "y": 2, "z": 5}
    assert document.lines["one", "y"] == 4
    assert document.lines["one", "x"] == 1


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_says_how_to_start(text):
    message = refused(text)
    assert message.startswith("f.yaml:1: ")
    assert "name" in message


@pytest.mark.parametrize("text, what", [("- 1\n", "a list"), ("\nhello\n", "text")])
def test_the_top_must_be_a_mapping(text, what):
    message = refused(text)
    assert message.endswith(f"must be a mapping of keys such as name, model and data, not {what}")


@pytest.mark.parametrize(
    "text, line, words",
    [
        ("a:\n\tb: 1\n", 2, "indent with spaces"),
        ("a: 1\n b: 2\n", 2, "check the indentation"),
        ("a: b: c\n", 1, "quote the text"),
        ("a:\n  b: 1\n c: 2\n", 3, "align it"),
        ("a: [1,\n  2\n", 1, "never closed"),
        ("a: 1\nb: 'x\nc: 2\n", 2, "never closed"),
        ("a: [1\nb: 2\n", 2, "misses a comma"),
        ("a: @x\n", 1, "put it in quotes"),
        ("a: *x\n", 1, "needs quotes"),
        ("a: 1\nb\nc: 2\n", 3, "write `key: value`"),
        ("a: 1\n---\nb: 2\n", 2, "drop the `---`"),
        ("a: 1\nb: \x07\n", 2, "control character"),
        ("a: !<\n", 1, "not YAML: "),
    ],
)
def test_what_is_not_yaml_says_where_and_what_to_do(text, line, words):
    message = refused(text)
    assert message.startswith(f"f.yaml:{line}: not YAML: ")
    assert words in message
    assert "\n" not in message


def test_what_is_nested_too_deeply_without_a_bracket_is_refused():
    assert "nested too deeply" in refused("a: 1\nb:\n" + "- " * 3000 + "x\n")


def test_a_key_twice_names_both_lines():
    assert refused("a: 1\nb: {c: 1,\n  c: 2}\na: 3\n") == (
        "f.yaml:3: b.c: stands twice, first in line 2; drop one (and 1 more)"
    )


@pytest.mark.parametrize("text", ["a: !mine 1\n", "a: !!set {x}\n", "a: !!python/tuple [1]\n"])
def test_tags_are_refused(text):
    assert "is not for study files" in refused(text)


def test_a_tag_that_lies_is_refused():
    assert refused("a: !!int x\n") == "f.yaml:1: a: x cannot be read as a number"


def test_only_mappings_can_be_merged():
    assert refused("a: 1\n<<: 3\n") == "f.yaml:2: <<: can only merge a mapping"


def test_a_key_that_is_not_a_word_is_shown_as_a_question():
    assert data("? [1, 2]\n: 3\n") == {"?": 3}


LAUGHS = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['x'] * 9)}]\n" for i in range(9))


@pytest.mark.parametrize("text", ["a: &x {b: *x}\n", "a: &x [*x]\n", LAUGHS, "a: " + "[" * 60 + "]" * 60])
def test_a_text_that_would_fill_the_memory_is_refused(text):
    assert "endless or far too large" in refused(text)


@pytest.mark.parametrize("depth", [200, 5_000])
def test_a_text_that_is_nested_too_deeply_is_refused(depth):
    assert "nested too deeply" in refused("a: " + "[" * depth + "]" * depth)


def test_a_text_that_is_too_deep_for_the_parser_is_refused():
    assert refused("[" * 1000) == "f.yaml:1: is nested too deeply for a study file"


def test_paths_are_written_as_people_write_them():
    assert dotted(("a", "b", 2, "c")) == "a.b[2].c"
    assert dotted(()) == ""


def test_the_first_complaint_by_line_is_told_with_the_number_of_others():
    found = [Complaint(("b",), 7, "late"), Complaint(("a",), 3, "early"), Complaint((), 9, "last")]
    error = refuse("f.yaml", found)
    assert str(error) == "f.yaml:3: a: early (and 2 more)"
    assert (error.file, error.line, error.key) == ("f.yaml", 3, "a")


@pytest.mark.parametrize("text", ["[" * 60_000, '{"a":' * 10_000, "a: " + "[]" * 200 + "[{" * 60])
def test_brackets_that_nest_without_end_are_refused_before_they_are_parsed(text, monkeypatch):
    monkeypatch.setattr("hpo_service.domain.studyfile.document.YAML", None)
    assert "nested too deeply" in refused(text)


def test_many_brackets_beside_each_other_are_fine():
    assert len(parse_document("a: [" + "[], " * 500 + "]", "f.yaml").data["a"]) == 500
