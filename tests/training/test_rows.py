"""The account of a study's rows: counted before anything is trained, and short beside every trial."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest

from hpo_service.domain.study.data_report import DataReport, PartReport, TurnsReport, Understanding
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.errors import DataError
from hpo_service.training.data.report import answer_to
from hpo_service.training.data.rows import padding_share, prepare_rows
from tests.training.tiny import CHAT_TEMPLATE, byte_tokenizer, pairs, write_rows


def prepared(folder, rows, **fields):
    return prepare_rows(DataSpec(source=write_rows(folder / "rows.jsonl", rows), **fields), byte_tokenizer())


def test_lengths_are_told_as_they_were_before_the_cut(tmp_path):
    rows = [{"prompt": "", "completion": f"{i:03}" + "x" * 5} for i in range(200)]
    rows[7]["completion"] = "y" * 300
    report = prepared(tmp_path, rows, max_length=32).report
    # BOS, eight characters, EOS
    assert (report.whole.p50, report.whole.p90, report.whole.p99, report.whole.longest) == (10, 10, 10, 302)
    assert report.whole.truncated == sum(part.truncated for part in report.parts.values()) == 1
    assert report.whole.tokens == 199 * 10 + 32
    assert report.whole.supervised_tokens == report.whole.tokens - 200
    assert report.longest_row == f"{tmp_path}/rows.jsonl, line 8"


def test_rows_that_nothing_can_be_learned_from_are_counted_apart(tmp_path):
    rows = [*pairs(150), *({"prompt": f"{i} " * 40, "completion": "x"} for i in range(50))]
    report = prepared(tmp_path, rows, max_length=48).report
    assert report.whole.unsupervised == 50
    assert report.whole.rows == 150
    assert report.whole.unsupervised_share == 0.25


def test_groups_are_counted_in_each_part(tmp_path):
    rows = [{**row, "author": f"author {i % 50}"} for i, row in enumerate(pairs(300))]
    found = prepared(tmp_path, rows, group="author")
    groups = {name: part.groups for name, part in found.report.parts.items()}
    assert all(groups.values())
    assert found.report.whole.groups == sum(groups.values()) == 50 == found.facts.groups
    assert prepared(tmp_path, rows).report.whole.groups is None


def test_padding_is_foreseen_from_lengths():
    assert padding_share(np.full(20, 10)) == 0
    assert padding_share(np.array([1, 9]), batch=2) == pytest.approx(8 / 18, abs=1e-4)


def part(rows, **changes):
    fields = {"tokens": 10 * rows, "supervised_tokens": 5 * rows, "p50": 9, "p90": 12, "p99": 40, "longest": 99}
    return PartReport(rows=rows, **{**fields, "truncated": 0, "unsupervised": 0, **changes})


def report_of(**changes):
    parts = {"train": part(800), "validation": part(100), "test": part(100)}
    fields = {
        "source": "rows.jsonl",
        "format": "text",
        "learn": "completions",
        "max_length": 32,
        "rows_read": 1000,
        "rows_split": 1000,
        "leaked": 0,
        "repeated": 0,
        "duplicates": 0,
        "longest_row": "rows.jsonl, line 1",
        "padding_share": 0.1,
        "parts": parts,
        "whole": part(1000),
        "fingerprint": "f",
    }
    return DataReport(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes, warning",
    [
        ({"whole": part(1000, truncated=120)}, "12% of the rows are cut to 32 tokens: raise data.max_length (99% of"),
        (
            {"whole": part(900, unsupervised=100)},
            "10% of the rows have nothing to learn and are dropped: raise ",
        ),
        ({"duplicates": 200}, "200 of 800 training rows repeat another: remove them from the data"),
        (
            {"parts": {"train": part(800), "validation": part(12), "test": part(100)}},
            "12 validation rows tell configurations apart poorly: give more rows or a larger data.split.validation",
        ),
        ({"padding_share": 0.45}, "45% of a training batch is padding: data.pack_rows: true saves it"),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(changes, warning):
    assert report_of().warnings() == []
    (found,) = report_of(**changes).warnings()
    assert found.startswith(warning)


def understood(**changes):
    return report_of(understanding=Understanding(rows=1000, **changes))


def turns_of(**changes):
    return TurnsReport(**{"turns": 80, "marked": 0, "hidden": 0, "altered": 0, "left_out": {}, **changes})


@pytest.mark.parametrize(
    "changes, warning",
    [
        ({"turns": turns_of(hidden=40)}, "40 of 80 turns of the assistant are not learned, since the chat template "),
        ({"turns": turns_of(altered=3)}, "3 of 80 turns of the assistant are learned as the chat template shows them"),
        (
            {"turns": turns_of(left_out={"tool_calls": 7})},
            "the chat template leaves out tool_calls (7 times): the",
        ),
        ({"rows_unended": 60}, "60 of 1000 rows teach no end, so the model may never stop: the chat template or"),
        (
            {"columns_unused": {"id": 1000, "system": 30}},
            "column 'system' usually holds a system text, and 30 rows fill it, but the format text does not read it: ",
        ),
    ],
)
def test_what_rows_say_and_a_model_does_not_learn_is_a_warning(changes, warning):
    (found,) = understood(**changes).warnings()
    assert found.startswith(warning)
    assert understood(turns=turns_of(marked=40), rows_unended=50, columns_unused={"id": 9}).warnings() == []


def test_where_all_is_learned_no_turn_is_missed():
    assert report_of(learn="all", understanding=Understanding(turns=turns_of(hidden=40))).warnings() == []


def test_rows_without_weight_are_left_out_and_counted(tmp_path):
    rows = [{**row, "loss_weight": int(i % 4 > 0), "history": []} for i, row in enumerate(pairs(200))]
    report = prepared(tmp_path, rows).report
    assert (report.rows_read, report.rows_without_weight, report.whole.rows) == (200, 50, 150)
    assert report.understanding.columns_unused == {}
    with pytest.raises(DataError, match="every row has the weight 0, so there is nothing to learn"):
        prepared(tmp_path, [{**row, "weight": 0} for row in pairs(20)])


def test_turns_are_counted_over_all_parts(tmp_path):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]
    rows = [{"messages": [*turns, {"role": "assistant", "content": f"row {i}"}]} for i in range(60)]
    spec = DataSpec(source=write_rows(tmp_path / "rows.jsonl", rows))
    counted = prepare_rows(spec, byte_tokenizer(CHAT_TEMPLATE)).report.understanding.turns
    assert (counted.turns, counted.marked, counted.hidden) == (120, 60, 0)


def request(llama, source, cache, **data):
    return {"model": {"base": llama}, "data": {"source": source, **data}, "cache": str(cache)}


def test_a_request_is_answered_with_the_report_that_trials_have(llama, data_file, tmp_path):
    answer = answer_to(request(llama, data_file, tmp_path), io.StringIO())
    expected = prepare_rows(DataSpec(source=data_file), byte_tokenizer(CHAT_TEMPLATE)).report
    assert DataReport.model_validate(answer) == expected
    assert any((tmp_path / "rows").iterdir())


def test_the_process_writes_one_answer_and_nothing_else(llama, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [*pairs(30), {"prompt": 1, "completion": "x"}])
    child = subprocess.run(
        [sys.executable, "-m", "hpo_service.training.data.report"],
        input=json.dumps(request(llama, rows, tmp_path)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 1
    assert json.loads(child.stdout) == {"error": f"{rows}, line 31: column 'prompt' must be text, not a int"}


def test_data_that_are_mostly_cut_away_are_refused(llama, tmp_path):
    rows = [{"prompt": f"{i} " * 40, "completion": "x"} for i in range(60)]
    with pytest.raises(DataError, match=r"60 of 60 rows have nothing to learn"):
        answer_to(request(llama, write_rows(tmp_path / "rows.jsonl", rows), tmp_path, max_length=16))
