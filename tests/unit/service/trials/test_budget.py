"""Admission to the search stage."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service.domain.trial.states import TrialState
from hpo_service.service.trials.budget import Admission, admission
from hpo_service.storage.studies import StageRow
from hpo_service.storage.trial.trials import TrialRow

HOUR = 3600.0


class Trials:
    """Rows of a stage, and the device time it took so far."""

    def __init__(self, used_hours: float, *rows: TrialRow) -> None:
        self._used, self._rows = used_hours, rows
        self.attempts = self.tallies = self

    def device_seconds(self, stage_id: int) -> float:
        return self._used * HOUR

    def run_seconds(self, stage_id: int) -> list[float]:
        ran = [row for row in self._rows if row.state is TrialState.COMPLETE and row.copied_from is None]
        return [row.device_seconds for row in ran]

    def to_run(self, stage_id: int) -> float:
        return sum(1.0 - row.progress for row in self._rows if not row.state.final)


def stage(trials: int = 10, hours: float | None = None) -> StageRow:
    values: dict[str, Any] = dict.fromkeys(StageRow.__dataclass_fields__, None)
    here = {
        "id": 5,
        "study_id": 1,
        "stage": "search",
        "trials": trials,
        "gpu_hours": hours,
        "space_document": {},
        "plan": {},
    }
    return StageRow(**{**values, **here})


def row(state: TrialState, *, hours: float = 0.0, progress: float = 0.0, copied_from: int | None = None) -> TrialRow:
    values: dict[str, Any] = dict.fromkeys(TrialRow.__dataclass_fields__, None)
    here = {"state": state, "device_seconds": hours * HOUR, "progress": progress, "copied_from": copied_from}
    return TrialRow(**{**values, **here})


def decide(hours: float | None, used: float, *rows: TrialRow, total: int = 3) -> Admission:
    store: Any = Trials(used, *rows)
    return admission(stage(hours=hours), total, store)


@pytest.mark.parametrize("total, is_open", [(0, True), (9, True), (10, False), (11, False)])
def test_trials_are_admitted_up_to_the_number_asked_for(total: int, is_open: bool) -> None:
    verdict = decide(None, 99.0, total=total)
    assert verdict.open is is_open
    assert verdict.reason == (
        f"trial {total + 1} of 10" if is_open else "all 10 trials of the budget have been admitted"
    )


def test_device_hours_that_are_used_up_close_the_stage_with_the_reason() -> None:
    verdict = decide(2.0, 2.0)
    assert not verdict.open
    assert verdict.reason == "2.000 of 2 device hours are used and 0.000 more are spoken for"


def test_a_trial_that_would_end_beyond_the_budget_is_not_admitted() -> None:
    done = row(TrialState.COMPLETE, hours=0.5)
    assert decide(2.0, 1.4, done).open
    assert not decide(2.0, 1.5, done).open


def test_what_running_trials_still_need_is_spoken_for() -> None:
    done = row(TrialState.COMPLETE, hours=0.5)
    running = row(TrialState.RUNNING, progress=0.8)
    assert decide(2.0, 1.3, done, running).open
    assert not decide(2.0, 1.3, done, running, running, running).open


def test_a_trial_that_waits_for_its_next_attempt_is_spoken_for_too() -> None:
    done = row(TrialState.COMPLETE, hours=0.5)
    assert not decide(2.0, 1.3, done, row(TrialState.WAITING, progress=0.2)).open


def test_pruned_trials_and_copies_do_not_make_a_trial_look_cheap() -> None:
    rows = [
        row(TrialState.COMPLETE, hours=0.5),
        row(TrialState.COMPLETE, copied_from=1),
        row(TrialState.PRUNED, hours=0.1),
        row(TrialState.FAILED, hours=0.0),
    ]
    assert not decide(2.0, 1.6, *rows).open
    assert decide(2.0, 1.45, *rows).open


def test_before_a_trial_was_completed_only_what_was_used_counts() -> None:
    assert decide(2.0, 1.9, row(TrialState.RUNNING), row(TrialState.PRUNED, hours=1.0)).open


def test_the_number_of_trials_is_looked_at_before_the_hours() -> None:
    assert "all 10 trials" in decide(1.0, 5.0, total=10).reason
