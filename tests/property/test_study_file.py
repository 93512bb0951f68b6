"""Whatever is done to a study file, it is either a study or one clear line that names a line of the file."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.sources import Surroundings
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.reader import StudyFile, read_study
from hpo_service.errors import StudyFileError

AROUND = Surroundings(absolute=lambda name: f"/here/{name}", exists=lambda path: False, architecture=lambda path: None)
ROOT = Path(__file__).parents[2]
TEXTS = [
    path.read_text(encoding="utf-8")
    for folder in (ROOT / "studies", ROOT / "tests" / "acceptance" / "broken_studies")
    for path in sorted(folder.glob("*.yaml"))
]
CLEAR = re.compile(r"f\.yaml:(\d+): \S.*\S")

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["tpe", "lora", "1e-4", "builtin:llama-tiny", "lora_rank", "cosine"]),
)
keys = st.one_of(
    st.sampled_from(sorted({*StudySpec.model_fields, *Hyperparameters.model_fields})),
    st.sampled_from(["base", "source", "low", "high", "choices", "when", "type", "parameters", "trials", "default"]),
    st.text(min_size=1, max_size=8),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


def is_a_study_or_one_clear_line(text: str) -> None:
    outcome = read(text)
    if isinstance(outcome, StudyFileError):
        found = CLEAR.fullmatch(str(outcome))
        assert found, str(outcome)
        assert 1 <= int(found[1]) == outcome.line <= len(text.splitlines()) + 1
    else:
        assert StudySpec.model_validate_json(outcome.spec.model_dump_json()) == outcome.spec
        assert all(1 <= warning.line <= len(text.splitlines()) for warning in outcome.warnings)


def read(text: str) -> StudyFile | StudyFileError:
    try:
        return read_study(text, "f.yaml", AROUND)
    except StudyFileError as error:
        return error


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(node, dict):
        return [path, *(place for key, value in node.items() for place in places(value, (*path, key)))]
    if isinstance(node, list):
        return [path, *(place for index, value in enumerate(node) for place in places(value, (*path, index)))]
    return [path]


def replaced(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else dict(enumerate(node))
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy if isinstance(node, dict) else list(copy.values())


def written(document: Any) -> str:
    stream = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_unicode = True
    yaml.dump(document, stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def good() -> list[dict[str, Any]]:
    return [YAML(typ="safe", pure=True).load(path.read_text()) for path in sorted((ROOT / "studies").glob("*.yaml"))]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_value_of_any_kind_at_any_place(data, good):
    document = data.draw(st.sampled_from(good))
    path = data.draw(st.sampled_from(places(document)))
    is_a_study_or_one_clear_line(written(replaced(document, path, data.draw(values))))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_key_of_any_name_in_any_section(data, good):
    document = data.draw(st.sampled_from(good))
    inside = [path for path in places(document) if isinstance(value_at(document, path), dict)]
    path = data.draw(st.sampled_from(inside))
    section = {**value_at(document, path), data.draw(keys): data.draw(values)}
    is_a_study_or_one_clear_line(written(replaced(document, path, section)))


def value_at(node: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        node = node[part]
    return node


@settings(max_examples=150, deadline=None)
@given(text=st.sampled_from(TEXTS), data=st.data())
def test_text_cut_out_doubled_or_typed_over(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    typed = data.draw(
        st.one_of(st.just(""), st.just(text[start:end] * 2), st.text(max_size=6), st.text("\t:-[]{}#&*!'\"\n "))
    )
    is_a_study_or_one_clear_line(text[:start] + typed + text[end:])


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text(text):
    is_a_study_or_one_clear_line(text)
