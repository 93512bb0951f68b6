"""Row shapes: found by their columns, and every misfit named with row and column."""

import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_service.domain.study.sections.data import RowFormat
from hpo_service.domain.study.sources import DataFile
from hpo_service.errors import DataError
from hpo_service.training.data.formats import FORMATS, detect_format, read_examples, unused_columns
from hpo_service.training.data.reading.source import READERS, RawRow
from hpo_service.training.data.reading.weight import counts
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
        "alpaca (instruction, output); text (text); "
        "name them by data.columns, as in {prompt: question, completion: answer}"
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


def chat(*turns, **columns):
    ((example,),) = (read_examples(rows({"messages": list(turns), **columns}))[1],)
    return example


USER, SAID = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"loss": 0.0}, {"weight": 1, "loss_mask": 0}])
def test_a_turn_that_says_it_is_not_to_be_learned_is_not(mark):
    example = chat(USER, {**SAID, **mark}, USER, {**SAID, "weight": 1})
    assert example.unlearned == {1}
    assert all(set(message) == {"role", "content"} for message in example.messages)


def test_a_turn_cannot_be_learned_by_half():
    with pytest.raises(
        DataError, match=r"column 'messages', turn 2 has the weight 0\.5; a turn is learned \(1\) or not"
    ):
        chat(USER, {**SAID, "weight": 0.5})


def test_a_system_column_is_the_first_turn_and_moves_the_marks_along():
    example = chat(USER, {**SAID, "weight": 0}, SAID, system="be kind")
    assert example.messages[0] == {"role": "system", "content": "be kind"}
    assert example.unlearned == {2}
    system = {"role": "system", "content": "be kind"}
    assert len(chat(system, USER, SAID, system="be kind").messages) == 3
    with pytest.raises(DataError, match="column 'system' and the first turn name different system texts"):
        chat({**system, "content": "be rude"}, USER, SAID, system="be kind")


CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}


def test_calls_are_kept_with_their_arguments_as_fields():
    called = chat(USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}).messages[1]
    assert called["content"] == ""
    assert called["tool_calls"] == [{**CALL, "function": {"name": "look", "arguments": {"x": 1}}}]
    older = {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}}
    assert chat(USER, older).messages[1]["tool_calls"][0]["function"] == {"name": "look", "arguments": {}}


def test_calls_of_sharegpt_are_turns_of_the_assistant():
    turns = [
        {"from": "human", "value": "hi"},
        {"from": "function_call", "value": '{"name": "look", "arguments": {"x": 1}}'},
        {"from": "observation", "value": "42"},
    ]
    (example,) = read_examples(rows({"conversations": turns}))[1]
    assert example.messages[1]["role"] == "assistant"
    assert example.messages[1]["tool_calls"][0]["function"] == {"name": "look", "arguments": {"x": 1}}
    turns[1]["value"] = "look(1)"
    with pytest.raises(DataError, match="turn 2 calls no function"):
        read_examples(rows({"conversations": turns}))
    turns[1]["value"] = "{}"
    with pytest.raises(DataError, match="turn 2 calls a function without a name"):
        read_examples(rows({"conversations": turns}))


def test_tools_are_read_as_a_list_or_as_json_text():
    tools = [{"type": "function", "function": {"name": "look"}}]
    assert chat(USER, SAID, tools=tools).tools == chat(USER, SAID, tools=json.dumps(tools)).tools == tuple(tools)
    with pytest.raises(DataError, match="line 1, column 'tools' must be a list of JSON schemas"):
        chat(USER, SAID, tools="look")


def test_rows_that_differ_in_calls_or_thoughts_are_different_rows():
    other = {**CALL, "function": {"name": "listen", "arguments": "{}"}}
    plain, thinking = chat(USER, SAID), chat(USER, {**SAID, "reasoning_content": "hm"})
    look, listen = (chat(USER, {**SAID, "tool_calls": [call]}) for call in (CALL, other))
    with_tools = chat(USER, SAID, tools=[{"name": "look"}])
    assert len({each.content for each in (plain, thinking, look, listen, with_tools)}) == 5
    assert chat(USER, {**SAID, "id": 7}).content == plain.content


def test_parts_of_text_are_one_text_and_others_are_named():
    parts = [{"type": "text", "text": "one "}, "and ", {"text": "two"}]
    assert chat(USER, {**SAID, "content": parts}).messages[1]["content"] == "one and two"
    with pytest.raises(DataError, match="turn 1 has a part of type 'image'; only text can be learned"):
        chat({**USER, "content": [{"type": "image", "url": "x.png"}]}, SAID)


def test_earlier_rounds_and_a_system_text_stand_before_an_instruction():
    fields = {
        "instruction": "and now?",
        "output": "so",
        "system": "Answer in French.",
        "history": [["what?", "that {}"]],
    }
    (example,) = read_examples(rows(fields))[1]
    assert example.prompt == (
        "Answer in French.\n\n### Instruction:\nwhat?\n\n### Response:\nthat {}\n\n"
        "### Instruction:\nand now?\n\n### Response:\n"
    )
    assert example.completion == "so"
    with pytest.raises(DataError, match="line 1: column 'history' must be a list of pairs"):
        read_examples(rows({**fields, "history": ["what?"]}))


def test_padding_of_tokenised_rows_is_taken_off_by_their_mask():
    left_and_right = {"input_ids": [2, 5, 6, 2, 2], "attention_mask": [0, 1, 1, 0, 0], "labels": [2, -100, 6, 9, 9]}
    (example,) = read_examples(rows(left_and_right))[1]
    assert (example.ids, list(example.labels), example.padding) == ([5, 6], [-100, 6], 3)


@pytest.mark.parametrize("column", ["completion_mask", "assistant_masks", "loss_mask"])
def test_masks_say_which_ids_are_learned(column):
    fields = {"input_ids": [5, 6, 7], column: [0, True, 1]}
    (example,) = read_examples(rows(fields))[1]
    assert list(example.labels) == [-100, 6, 7]
    (both,) = read_examples(rows({**fields, "labels": [5, 6, -100]}))[1]
    assert list(both.labels) == [-100, 6, -100]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"attention_mask": [1, 0, 1]}, "column 'attention_mask' hides token 2 between others"),
        ({"attention_mask": [0, 0, 0]}, "column 'attention_mask' hides every token"),
        ({"attention_mask": [1, 1]}, "column 'attention_mask' must have a 1 or 0 for each of 3 in 'input_ids'"),
        ({"loss_mask": [1, 1, 0.5]}, "column 'loss_mask' must have a 1 or 0 for each of 3 in 'input_ids'"),
    ],
)
def test_masks_that_mean_something_else_are_named(fields, message):
    with pytest.raises(DataError, match=f"rows.jsonl, line 1: {message}"):
        read_examples(rows({"input_ids": [5, 6, 7], **fields}))


def test_a_row_counts_or_does_not():
    (row,) = rows({"text": "a", "weight": "0"})
    assert not counts(row)
    assert all(counts(row) for row in rows({"text": "a"}, {"weight": 1, "loss_weight": None}, {"weight": "heavy"}))
    with pytest.raises(DataError, match=r"line 1: column 'loss_weight' is 0\.5; a row counts"):
        counts(rows({"text": "a", "loss_weight": 0.5})[0])


def test_columns_that_a_format_does_not_read_are_counted():
    found = rows({"prompt": "a", "completion": "b", "system": "s", "tools": [], "id": 0}, {"prompt": "a", "weight": 1})
    assert unused_columns(found, "prompt-completion") == {"id": 1, "system": 1}
    assert unused_columns(found, "prompt-completion", "id") == {"system": 1}


TEXTS = st.text(max_size=20)
TURNS = st.lists(
    st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", "system"]), "value": TEXTS}), min_size=1, max_size=4
)
VALUES = st.none() | st.integers() | TEXTS | st.lists(st.integers(-5, 9), max_size=4) | TURNS
COLUMNS = ["prompt", "completion", "instruction", "output", "text", "messages", "conversations", "input_ids", "labels"]
COLUMNS += ["system", "tools", "history", "attention_mask", "loss_mask"]


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
