"""Row shapes: found by their columns, and every misfit named with row and column."""

import pytest

from hpo_service.errors import DataError
from hpo_service.training.formats import detect_format, read_examples
from hpo_service.training.source import RawRow


def rows(*fields):
    return [RawRow(f"rows.jsonl, line {number}", each) for number, each in enumerate(fields, start=1)]


CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}


@pytest.mark.parametrize(
    "fields, name",
    [
        ({"prompt": "a", "completion": "b", "id": 1}, "prompt-completion"),
        ({"instruction": "a", "output": "b"}, "alpaca"),
        ({"instruction": "a", "input": "c", "output": "b"}, "alpaca"),
        (CHAT, "messages"),
        ({"text": "a"}, "text"),
    ],
)
def test_the_format_is_seen_by_the_columns(fields, name):
    assert detect_format(fields, "origin") == name
    assert read_examples(rows(fields))[0] == name


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


def test_columns_that_fit_nothing_are_listed_with_what_would_fit():
    with pytest.raises(DataError) as caught:
        read_examples(rows({"question": "a", "answer": "b"}))
    assert str(caught.value) == (
        "rows.jsonl, line 1: the columns question, answer fit no known format: messages (messages); "
        "prompt-completion (prompt, completion); alpaca (instruction, output); text (text)"
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
