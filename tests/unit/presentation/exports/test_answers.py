"""Answers in every format say the same, and a table that is cut says so."""

from __future__ import annotations

import io
import json
import math

import pytest
from pyarrow import parquet

from hpo_service.presentation.exports.answers import TEXTS, limited, write_parquet
from hpo_service.storage.querying.answer import Answer

COLUMNS = ["name", "value", "text"]
ROWS = [("a", 1, "plain"), ("b", 2.5, 'with "quotes", and\nlines'), ("c", None, "\x1b[31mred")]


def answer(rows=ROWS):
    return Answer(COLUMNS, iter(rows))


def written(kind, rows=ROWS):
    out = io.StringIO()
    TEXTS[kind](answer(rows), out)
    return out.getvalue()


def test_a_table_lines_up_and_holds_nothing_that_moves_the_cursor():
    lines = written("table").splitlines()
    assert lines[0].split() == COLUMNS
    assert lines[2:] == ["a     1      plain", 'b     2.5    with "quotes", and lines', "c             [31mred"]


def test_csv_quotes_and_leaves_null_empty():
    assert written("csv") == 'name,value,text\na,1,plain\nb,2.5,"with ""quotes"", and\nlines"\nc,,\x1b[31mred\n'


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS])
def test_json_is_one_list_of_objects(rows):
    assert json.loads(written("json", rows)) == [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def test_numbers_that_json_has_no_form_for_are_null():
    assert json.loads(written("json", [("a", math.nan, "x"), ("b", math.inf, "y")]))[0]["value"] is None


def test_parquet_keeps_kinds_and_turns_mixed_columns_into_text(tmp_path):
    rows = [("a", 1, 7), ("b", 2.5, "x")]
    write_parquet(answer(rows), tmp_path / "a.parquet")
    read = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert read == [{"name": "a", "value": 1.0, "text": "7"}, {"name": "b", "value": 2.5, "text": "x"}]


def test_parquet_of_no_rows_has_the_columns(tmp_path):
    write_parquet(answer([]), tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").column_names == COLUMNS


@pytest.mark.parametrize("limit, cut", [(None, []), (3, []), (2, [2]), (1, [1])])
def test_a_limit_cuts_and_says_so_only_where_there_was_more(limit, cut):
    said: list[int] = []
    kept = list(limited(answer(), limit, said.append).rows)
    assert kept == ROWS[:limit]
    assert said == cut
