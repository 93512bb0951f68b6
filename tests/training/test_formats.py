"""Row shapes: found by their columns, and every misfit named with row and column."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_service.domain.study.sections.data import RowFormat
from hpo_service.domain.study.sources import DataFile
from hpo_service.errors import DataError
from hpo_service.training.data.formats import FORMATS, detect_format, read_examples
from hpo_service.training.data.source import READERS, RawRow
from hpo_service.training.data.split import loose_key

PAGE = Path(__file__).parents[2] / "docs/data.md"


def rows(*fields):
    return [RawRow(f"rows.jsonl, line {number}", each) for number, each in enumerate(fields, start=1)]


CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
SHAREGPT = {
    "conversations": [
        {"from": "system", "value": "be kind"},
        {"from": "human", "value": "hi"},
        {"from": "gpt", "value": "hello"},
    ]
}


@pytest.mark.parametrize(
    "fields, name",
    [
        ({"prompt": "a", "completion": "b", "id": 1}, "prompt-completion"),
        ({"instruction": "a", "output": "b"}, "alpaca"),
        ({"instruction": "a", "input": "c", "output": "b"}, "alpaca"),
        (CHAT, "messages"),
        (SHAREGPT, "sharegpt"),
        ({"input_ids": [1, 2], "attention_mask": [1, 1], "labels": [-100, 2]}, "tokenised"),
        ({"text": "a"}, "text"),
    ],
)
def test_the_format_is_seen_by_the_columns(fields, name):
    assert detect_format(fields, "origin") == name
    assert read_examples(rows(fields))[0] == name


def test_every_format_may_be_named_in_a_study_file_and_stands_in_the_documentation():
    assert {"auto", *FORMATS} == set(get_args(RowFormat))
    page = PAGE.read_text()
    for name, shape in FORMATS.items():
        assert f"| `{name}` | {shape.written} | {shape.learned} |" in page
        assert all(f"`{column}`" in shape.written for column in shape.columns)


def test_every_kind_of_file_has_a_reader_and_stands_in_the_documentation():
    assert READERS.keys() == set(DataFile)
    page = PAGE.read_text()
    assert all(f"`{ending}`" in page for ending in DataFile)


def test_a_named_format_is_not_guessed():
    fields = {"text": "plain", "prompt": "a", "completion": "b"}
    (example,) = read_examples(rows(fields), "text")[1]
    assert (example.prompt, example.completion) == ("", "plain")


def test_alpaca_rows_are_rendered_with_and_without_input():
    with_input, without = read_examples(
        rows(
            {"instruction": "Add.", "input": "1 2", "output": "3"},
            {"instruction": "Sing.", "input": "", "output": "La"},
        )
    )[1]
    assert with_input.prompt.endswith("### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n")
    assert without.prompt.endswith("### Instruction:\nSing.\n\n### Response:\n")
    assert "Input" not in without.prompt
    assert (with_input.completion, without.completion) == ("3", "La")


def test_rows_are_recognised_by_all_their_text():
    one, two = read_examples(rows({"prompt": "a", "completion": "bc"}, {"prompt": "ab", "completion": "c"}))[1]
    assert one.content != two.content
    (chat,) = read_examples(rows(CHAT))[1]
    assert "hello" in chat.content


def test_sharegpt_is_a_conversation_with_other_names():
    (chat,) = read_examples(rows(SHAREGPT))[1]
    assert chat.messages == (
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    )


def test_rows_that_are_tokenised_already_keep_their_ids_and_labels():
    with_labels, without = read_examples(
        rows({"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [5, 67], "labels": None})
    )[1]
    assert (with_labels.ids, with_labels.labels) == ([5, 6, 7], [-100, 6, 7])
    assert (without.ids, without.labels) == ([5, 67], ())
    assert loose_key(without.content) != loose_key(with_labels.content)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"input_ids": "1 2"}, "column 'input_ids' must be a list of whole numbers, not a str"),
        ({"input_ids": []}, "column 'input_ids' is empty, so there is nothing to learn"),
        ({"input_ids": [1, 2.5]}, "column 'input_ids', number 2 must be a whole number, not 2.5"),
        ({"input_ids": [1, True]}, "column 'input_ids', number 2 must be a whole number, not True"),
        ({"input_ids": [1, 2], "labels": [1]}, "column 'labels' has 1 numbers for 2 in 'input_ids'"),
        (
            {"input_ids": [1, 2], "labels": [-100, 3]},
            "column 'labels', number 2 is 3; it must be -100 or the token there, 2",
        ),
    ],
)
def test_ids_that_cannot_be_learned_are_named(fields, message):
    with pytest.raises(DataError) as caught:
        read_examples(rows(fields))
    assert str(caught.value).startswith(f"rows.jsonl, line 1: {message}")


def test_a_group_is_read_from_the_column_that_is_named_for_it():
    fields = {"prompt": "a", "completion": "b"}
    assert [e.group for e in read_examples(rows({**fields, "author": 7}), group="author")[1]] == ["7"]
    assert [e.group for e in read_examples(rows(fields))[1]] == [None]
    with pytest.raises(DataError, match=r"line 1: column 'author', which data\.group names, is missing"):
        read_examples(rows(fields), group="author")
    with pytest.raises(DataError, match=r"'author', which data\.group names, must be text or a number, not nothing"):
        read_examples(rows({**fields, "author": None}), group="author")


def test_columns_that_fit_nothing_are_listed_with_what_would_fit():
    with pytest.raises(DataError) as caught:
        read_examples(rows({"question": "a", "answer": "b"}))
    assert str(caught.value) == (
        "rows.jsonl, line 1: the columns question, answer fit no known format: messages (messages); "
        "sharegpt (conversations); tokenised (input_ids); prompt-completion (prompt, completion); "
        "alpaca (instruction, output); text (text)"
    )


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"prompt": "a"}, "rows.jsonl, line 2: column 'completion' is missing"),
        ({"prompt": "a", "completion": None}, "line 2: column 'completion' must be text, not nothing"),
        ({"prompt": 3, "completion": "b"}, "line 2: column 'prompt' must be text, not a int"),
        ({"prompt": "a", "completion": " \n"}, "line 2: column 'completion' is empty, so there is nothing to learn"),
    ],
)
def test_a_row_that_does_not_fit_is_named(bad, message):
    with pytest.raises(DataError) as caught:
        read_examples(rows({"prompt": "a", "completion": "b"}, bad))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "turns, message",
    [
        ([], "column 'messages' must be a list of turns"),
        ("hello", "column 'messages' must be a list of turns, not a str"),
        ([{"role": "user"}], "column 'messages', turn 1 needs a role and a content, both text"),
        (["hello"], "column 'messages', turn 1 needs a role and a content, both text"),
        ([{"role": "user", "content": "hi"}], "column 'messages' has no turn of the assistant"),
    ],
)
def test_a_conversation_that_cannot_be_learned_from_is_named(turns, message):
    with pytest.raises(DataError) as caught:
        read_examples(rows({"messages": turns}))
    assert str(caught.value).startswith(f"rows.jsonl, line 1: {message}")


def test_a_sharegpt_turn_from_nobody_known_is_named():
    stranger = {"conversations": [{"from": "oracle", "value": "hi"}]}
    with pytest.raises(DataError, match=r"'conversations', turn 1 is from 'oracle'; those known are human, user"):
        read_examples(rows(stranger))
    with pytest.raises(DataError, match="column 'conversations', turn 1 needs a from and a value, both text"):
        read_examples(rows({"conversations": [{"from": "gpt"}]}))


TEXTS = st.text(max_size=20)
TURNS = st.lists(
    st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", "system"]), "value": TEXTS}), min_size=1, max_size=4
)
VALUES = st.none() | st.integers() | TEXTS | st.lists(st.integers(-5, 9), max_size=4) | TURNS
COLUMNS = ["prompt", "completion", "instruction", "output", "text", "messages", "conversations", "input_ids", "labels"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=4), min_size=1, max_size=3))
def test_any_rows_are_understood_or_refused_in_one_line_that_names_one(found):
    try:
        _, examples = read_examples(rows(*found))
    except DataError as error:
        refusal = str(error)
    else:
        assert [bool(example.content) for example in examples] == [True] * len(found)
        return
    assert refusal.startswith("rows.jsonl, line ")
    assert "\n" not in refusal
