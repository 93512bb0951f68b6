"""Admission to the search stage: exact in trials, in time for device hours."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from hpo_service.storage.studies import StageRow
from hpo_service.storage.trial.tallies import TallyStore
from hpo_service.storage.trial.trials import TrialStore


@dataclass(frozen=True)
class Admission:
    """Whether one more trial may start, and why (not)."""

    open: bool
    reason: str


def admission(stage: StageRow, total: int, trials: TrialStore) -> Admission:
    """Decide whether one more trial fits the budget; call it with the study locked.

    Every trial that was ever admitted counts, whatever became of it, retried ones once. A device-hour budget counts
    what finished attempts took, what running ones took so far, and what the unfinished trials and the new one are
    expected to take still: the median of the latest complete trials that were run.
    """
    if total >= stage.trials:
        return Admission(False, f"all {stage.trials} trials of the budget have been admitted")
    if stage.gpu_hours is not None:
        used = trials.attempts.device_seconds(stage.id) / 3600
        expected = _expected_hours(trials.tallies, stage.id)
        if used + expected >= stage.gpu_hours:
            return Admission(
                False,
                f"{used:.3f} of {stage.gpu_hours:g} device hours are used and {expected:.3f} more are spoken for",
            )
    return Admission(True, f"trial {total + 1} of {stage.trials}")


def _expected_hours(tallies: TallyStore, stage_id: int) -> float:
    durations = tallies.run_seconds(stage_id)
    if not durations:
        return 0.0
    return statistics.median(durations) * (tallies.to_run(stage_id) + 1.0) / 3600
