"""The contract of the views, on every kind of database: people read names, times and the values that were trained."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from hpo_service.domain.study.search_space import SearchSpace
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialState
from hpo_service.storage.workers import WorkerStore


@pytest.fixture
def rows(world):
    def rows(view: str) -> list[dict[str, object]]:
        with world.db.transaction(read_only=True):
            found = world.db.connection.execute(text(f"SELECT * FROM {view}"))
            return [dict(row._mapping) for row in found]

    return rows


@pytest.fixture
def trial(world, optuna):
    """A trial with one parameter of every kind, one report, and its end."""
    space = SearchSpace.model_validate(
        {
            "parameters": {
                "rate": {"type": "float", "low": 1e-6, "high": 1.0, "log": True},
                "layers": {"type": "int", "low": 1, "high": 9},
                "rank": {"type": "categorical", "choices": [4, 8, 16]},
                "scale": {"type": "categorical", "choices": [0.5, 1.5]},
                "scheduler": {"type": "categorical", "choices": ["cosine", "linear"]},
                "rslora": {"type": "categorical", "choices": [True, False]},
            }
        }
    )
    parameters = {
        "rate": 0.001,
        "layers": 7,
        "rank": 16,
        "scale": 1.5,
        "scheduler": "linear",
        "rslora": False,
    }
    trial = world.admit()
    with world.db.transaction():
        optuna.create(world.stage.optuna_name, "minimize")
        handle = optuna.add_running(world.stage.optuna_name, parameters, space)
        world.trials.bind(trial.id, handle.optuna_id, handle.number)
        world.trials.reports.add(
            trial, Report(step=1, fraction=0.125, value=2.5, metrics={"grad_norm": 0.5, "own": 7.0})
        )
        facts = {"seed": 7, "peak_memory_gb": 1.5, "device": "cpu", "metric:rouge_l": 0.25, "broken": math.nan}
        return world.trials.settle(
            trial.id, TrialState.COMPLETE, reason="done", value=2.25, adapter="/adapters/0", facts=RunFacts.of(facts)
        )


def test_parameters_are_shown_as_they_were_trained(trial, rows):
    shown = {row["name"]: row for row in rows("v_params")}
    assert {name: row["value"] for name, row in shown.items()} == {
        "rate": "0.001",
        "layers": "7",
        "rank": "16",
        "scale": "1.5",
        "scheduler": "linear",
        "rslora": "false",
    }
    assert {name: row["number_value"] for name, row in shown.items()} == {
        "rate": 0.001,
        "layers": 7,
        "rank": 16,
        "scale": 1.5,
        "scheduler": None,
        "rslora": None,
    }
    assert {row["number"] for row in shown.values()} == {0}


def test_a_trial_is_shown_with_its_study_and_times(world, trial, rows):
    (shown,) = rows("v_trials")
    assert (shown["study"], shown["stage"], shown["number"]) == (world.study.name, "search", 0)
    assert (shown["state"], shown["value"], shown["reason"]) == ("complete", 2.25, "done")
    assert abs((_as_time(shown["ended_at"]) - datetime.now(UTC)).total_seconds()) < 60
    assert list(shown)[:3] == ["study", "stage", "number"]
    assert shown["adapter"] == "/adapters/0"


def test_what_a_run_left_is_shown_by_name(world, trial, rows):
    shown = {row["name"]: row for row in rows("v_facts")}
    assert {name: row["number_value"] for name, row in shown.items()} == {
        "seed": 7,
        "peak_memory_gb": 1.5,
        "device": None,
        "metric:rouge_l": 0.25,
        "broken": None,
    }
    assert {name: shown[name]["value"] for name in ("seed", "device", "broken")} == {
        "seed": "7",
        "device": "cpu",
        "broken": None,
    }
    assert {(row["study"], row["stage"], row["number"]) for row in shown.values()} == {(world.study.name, "search", 0)}


def test_curves_and_attempts_are_shown_by_trial(world, trial, rows):
    (curve,) = rows("v_curves")
    assert (curve["study"], curve["number"], curve["step"], curve["value"]) == (world.study.name, 0, 1, 2.5)
    assert (curve["grad_norm"], curve["train_loss"]) == (0.5, None)
    (attempt,) = rows("v_attempts")
    assert (attempt["number"], attempt["attempt"], attempt["outcome"], attempt["worker"]) == (
        0,
        1,
        "complete",
        "w1",
    )


def test_a_study_is_shown_with_its_counts(world, trial, rows):
    world.plan(2)
    (shown,) = rows("v_studies")
    assert (shown["study"], shown["stage"], shown["trials"]) == (world.study.name, "search", 3)
    assert (shown["complete"], shown["waiting"], shown["running"]) == (1, 2, 0)
    assert shown["ended_at"] is None


def test_a_study_without_trials_is_shown_too(world, rows):
    (shown,) = rows("v_studies")
    assert (shown["trials"], shown["device_seconds"]) == (0, 0)


def test_a_worker_is_shown_with_what_it_runs(world, rows):
    with world.db.transaction():
        WorkerStore(world.db).register("w1", "host", 1, "0.1.0", "cpu")
    world.admit(worker="w1")
    (shown,) = rows("v_workers")
    assert (shown["worker"], shown["state"], shown["running"]) == ("w1", "active", 1)


def _as_time(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(str(value)).replace(tzinfo=UTC)
