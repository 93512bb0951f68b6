"""What a study file may say of its rows, and what it is told where that does not fit together."""

import pytest
from pydantic import ValidationError

from hpo_service.domain.study.sections.data import COLUMNS, DataSpec, placeholders


def refused(**data) -> str:
    with pytest.raises(ValidationError) as caught:
        DataSpec(**{"source": "rows.jsonl", **data})
    return str(caught.value)


def test_a_source_is_one_name_or_several():
    assert DataSpec(source="a.jsonl").sources == ("a.jsonl",)
    several = DataSpec(source=["a.jsonl", "b.jsonl", "c/d"], test="t.jsonl")
    assert several.sources == ("a.jsonl", "b.jsonl", "c/d")
    assert several.called == "a.jsonl and 2 more"
    assert several.held_out == {"test": ("t.jsonl",)}


def test_every_name_is_told_with_its_place():
    spec = DataSpec(source=["a.jsonl", "b.jsonl"], validation="v.jsonl")
    assert list(spec.places()) == [(("source", 0), "a.jsonl"), (("source", 1), "b.jsonl"), (("validation",), "v.jsonl")]


def test_an_old_study_is_written_as_it_was():
    assert DataSpec(source="a.jsonl").model_dump(exclude_unset=True) == {"source": "a.jsonl"}


@pytest.mark.parametrize(
    "data, message",
    [
        ({"columns": {"question": "prompt"}}, "stands the wrong way round: write prompt: question"),
        ({"columns": {"promt": "question"}}, "is no column of a format; the nearest is prompt"),
        ({"validation": "rows.jsonl"}, "is what is trained on: name other rows"),
        ({"source": "rows/*", "test": ["rows/*"]}, "is what is trained on"),
        ({"as_chat": True, "format": "messages"}, "is for rows of prompt and completion, not for messages"),
        ({"system": "be kind", "format": "text"}, "has no place in rows of the format text"),
        ({"prompt_template": "{a}", "format": "alpaca"}, "makes the prompt of prompt-completion rows, not of alpaca"),
        ({"prompt_template": "{a}", "columns": {"prompt": "b"}}, "and so does data.columns.prompt"),
        ({"prompt_template": "no column"}, "names no column"),
        ({"prompt_template": "{a"}, "cannot be filled in"),
        ({"prompt_template": "{a.b}"}, "{a.b} is no column's name"),
        ({"prompt_template": "{a!r:>5}"}, "{a!r:>5} is no column's name"),
        ({"source": []}, "at least 1 item"),
        ({"subset": "en"}, "is for data sets from the hub, and rows.jsonl is none"),
    ],
)
def test_what_does_not_fit_together_is_refused(data, message):
    assert message in refused(**data)


def test_a_hub_data_set_may_hold_its_own_parts():
    assert DataSpec(source="org/set", validation="org/set").held_out == {"validation": ("org/set",)}


def test_a_template_names_columns_and_braces_of_its_own_are_written_twice():
    assert placeholders("{{x}} {a} and {b c}") == ["a", "b c"]
    assert DataSpec(source="r", prompt_template="{a}").prompt_template == "{a}"


def test_columns_have_no_name_twice():
    assert len(set(COLUMNS)) == len(COLUMNS)
