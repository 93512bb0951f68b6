"""Rows shown as the model sees them: whole text, what is learned apart, cut to length."""

import pytest

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.errors import DataError
from hpo_service.training.data.shown import shown_rows
from tests.training.tiny import CHAT_TEMPLATE, byte_tokenizer, write_rows

TURNS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "h\u00e9 \u65e5"},
    {"role": "user", "content": "and?"},
    {"role": "assistant", "content": "bye"},
]


def shown(tmp_path, rows, count=2, **data):
    spec = DataSpec(source=write_rows(tmp_path / "rows.jsonl", rows), **data)
    return shown_rows(spec, byte_tokenizer(CHAT_TEMPLATE), count)


def test_a_conversation_is_shown_whole_with_the_assistants_turns_learned(tmp_path):
    (row,) = shown(tmp_path, [{"messages": TURNS}], system="Be kind.")
    text = "".join(piece.text for piece in row.pieces)
    assert text == (
        "<system>Be kind.</system>\n<user>hi</user>\n<assistant>h\u00e9 \u65e5</assistant>\n"
        "<user>and?</user>\n<assistant>bye</assistant>\n"
    )
    assert "[[h\u00e9 \u65e5</assistant>\n]]" in row.marked()
    assert [piece.learned for piece in row.pieces] == [False, True, False, True]
    assert row.summary.endswith("learned")
    assert row.origin.endswith("rows.jsonl, line 1")


def test_only_the_first_rows_are_shown_cut_to_length_and_without_those_of_no_weight(tmp_path):
    rows = [{"prompt": "a", "completion": "b", "weight": 0}, {"prompt": "x" * 40, "completion": "y"}]
    rows += [{"prompt": "c", "completion": "d"}] * 3
    long, short = shown(tmp_path, rows, max_length=10)
    assert long.summary.endswith("10 tokens, cut from 43, none learned")
    assert "c[[d" in short.marked()


def test_where_all_is_learned_the_first_token_is_not(tmp_path):
    (row,) = shown(tmp_path, [{"text": "abc"}], learn="all")
    assert [piece.learned for piece in row.pieces] == [False, True]
    assert row.pieces[0].tokens == 1


def test_rows_that_all_have_no_weight_are_one_clear_line(tmp_path):
    with pytest.raises(DataError, match="every row has the weight 0"):
        shown(tmp_path, [{"text": "a", "weight": 0}])
