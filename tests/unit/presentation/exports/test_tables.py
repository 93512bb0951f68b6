"""The tables of a study: flat, joined on study, stage and number, and readable by others."""

import csv
from dataclasses import replace

import pytest
from pyarrow import parquet

from hpo_service.errors import UsageError
from hpo_service.presentation.exports import tables as export
from hpo_service.presentation.exports.tables import write_tables
from hpo_service.storage.trial.attempts import AttemptRow
from tests.unit.presentation import story

ATTEMPTS = [
    AttemptRow(1, 200, 1, 1, "w1", 1.0, 10.0, 12.0, "loss", "fell silent", 2.0),
    AttemptRow(2, 200, 2, 2, "w2", 1.0, 13.0, 20.0, "complete", "done", 7.0),
    AttemptRow(3, 999, 1, 1, "w2", 1.0, 13.0, None, None, "", None),
]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    files = write_tables(story.snapshot(), ATTEMPTS, story.scores, tmp_path_factory.mktemp("to") / "new", "parquet")
    return {file.stem: parquet.read_table(file).to_pylist() for file in files}


def test_there_are_four_tables_with_a_common_key(tables):
    assert list(tables) == ["trials", "curves", "attempts", "scores"]
    assert all(list(rows[0])[:3] == ["study", "stage", "number"] for rows in tables.values())


def test_a_trial_is_a_row_with_its_parameters_and_facts(tables):
    assert len(tables["trials"]) == 16 + 9 + 6
    winner = tables["trials"][-2]
    told = story.confirm_stage().trials[-2]
    assert (winner["stage"], winner["number"], winner["label"], winner["value"]) == (
        "confirm",
        4,
        "winner 1",
        told.value,
    )
    assert winner["perplexity"] == pytest.approx(2.718281828**told.value)
    assert winner["param.learning_rate"] == told.parameters["learning_rate"]
    assert {f"fact.{name}": value for name, value in told.facts.flat().items()}.items() <= winner.items()


def test_every_evaluation_and_attempt_is_a_row_and_what_came_later_is_left_out(tables):
    curve = [row for row in tables["curves"] if (row["stage"], row["number"]) == ("confirm", 0)]
    assert [row["value"] for row in curve] == [report.value for report in story.confirm_stage().trials[0].curve]
    assert [(row["number"], row["attempt"], row["outcome"]) for row in tables["attempts"]] == [
        (0, 1, "loss"),
        (0, 2, "complete"),
    ]


def test_scores_give_back_the_loss_of_a_trial(tables):
    rows = [row for row in tables["scores"] if row["number"] == 1]
    expected = story.scores(201, "test")
    assert [row["row"] for row in rows] == list(range(len(expected.nll)))
    assert {row["split"] for row in rows} == {"test"}
    assert sum(row["nll"] for row in rows) / sum(row["tokens"] for row in rows) == pytest.approx(expected.mean)


def test_a_column_of_unlike_values_becomes_text(tmp_path):
    view = story.confirm_stage()
    targets = ["all-linear", ["q_proj", "v_proj"], None, "minimal", "minimal", "minimal"]
    trials = [
        replace(trial, parameters={**trial.parameters, "target_modules": value, "lora_rank": rank})
        for trial, value, rank in zip(view.trials, targets, [4, 8.5, 4, 4, 4, 4], strict=True)
    ]
    snapshot = story.snapshot(story.with_trials(view, trials))
    files = write_tables(snapshot, [], lambda *_: None, tmp_path, "parquet")
    rows = parquet.read_table(files[0]).to_pylist()
    assert [row["param.target_modules"] for row in rows[:3]] == ["all-linear", '["q_proj", "v_proj"]', None]
    assert [row["param.lora_rank"] for row in rows[:2]] == [4.0, 8.5]


def test_csv_needs_nothing_installed(tmp_path):
    files = write_tables(story.snapshot(), ATTEMPTS, story.scores, tmp_path, "csv")
    with files[2].open(newline="") as file:
        assert [row["worker_id"] for row in csv.DictReader(file)] == ["w1", "w2"]


def test_parquet_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pyarrow is not installed: .*--format csv"):
        export.write_tables(story.snapshot(), [], story.scores, tmp_path, "parquet")
