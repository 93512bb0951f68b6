"""What bounds trials: the budget of the search stage, and what bounds the worker that asks for one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from hpo_service.domain.study.protocol import current_of
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import TrialState
from hpo_service.storage.studies import STOPPED, StageRow
from hpo_service.storage.trial.tallies import TallyStore
from hpo_service.storage.trial.trials import TrialStore

FIRST_SECONDS = 10.0
"""How long a trial is thought to take to its first checkpoint while none has been measured."""


@dataclass(frozen=True)
class Limits:
    """What bounds a worker, whatever the study.

    Attributes:
        max_device_hours: of the study, all stages together, beyond which it starts nothing.
        seconds_left: until it must leave.
    """

    max_device_hours: float | None = None
    seconds_left: float | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Withheld:
    """Why a worker that is bounded is not given a trial, though there is one."""

    reason: str
    out_of_time: bool = False


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
        stopped = stage.plan.get(STOPPED)
        return Admission(False, str(stopped or f"all {stage.trials} trials of the budget have been admitted"))
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


def withheld(limits: Limits, stages: Sequence[StageRow], trials: TrialStore) -> Withheld | None:
    """Decide whether a worker's own limits forbid it another trial of the last of these stages, a study's so far."""
    return _too_late(limits.seconds_left, current_of(stages), trials) or _too_dear(
        limits.max_device_hours, stages, trials
    )


def _too_late(seconds_left: float | None, stage: StageRow, trials: TrialStore) -> Withheld | None:
    """A trial that cannot reach its first checkpoint in time would only be repeated by somebody else."""
    if seconds_left is None:
        return None
    measured = trials.attempts.seconds_to_first_report(stage.id) or trials.tallies.run_seconds(stage.id)
    needed = statistics.median(measured) if measured else FIRST_SECONDS
    if seconds_left >= needed:
        return None
    left = f"{max(0.0, seconds_left):.0f} s are left"
    return Withheld(f"{left}, a trial of {stage.stage} takes {needed:.0f} s to its first checkpoint", out_of_time=True)


def _too_dear(cap: float | None, stages: Sequence[StageRow], trials: TrialStore) -> Withheld | None:
    if cap is None:
        return None
    hours = device_hours(stages, trials)
    if hours.used + hours.due < cap:
        return None
    return Withheld(
        f"{hours.used:.3f} of at most {cap:g} device hours are used and {hours.due:.3f} more would be spoken for"
    )


@dataclass(frozen=True)
class DeviceHours:
    """What a study has taken so far, and what is to be expected.

    Attributes:
        used: by all its attempts, running ones included.
        typical: of one trial: the median of the latest complete ones of the last stage, or while there are none of the
            one before; 0 while there are none at all.
        runs: whole trials that the running ones still are.
    """

    used: float
    typical: float
    runs: float

    @property
    def due(self) -> float:
        """What the running trials and one more are to take still."""
        return self.typical * (self.runs + 1.0)


def device_hours(stages: Sequence[StageRow], trials: TrialStore) -> DeviceHours:
    """Add up a study's device hours by its stages so far."""
    used = sum(trials.attempts.device_seconds(stage.id) for stage in stages)
    durations = next((found for stage in stages[::-1] if (found := trials.tallies.run_seconds(stage.id))), [])
    typical = statistics.median(durations) if durations else 0.0
    return DeviceHours(used / 3600, typical / 3600, trials.tallies.to_run(current_of(stages).id, TrialState.RUNNING))


def overspent(spec: StudySpec, stages: Sequence[StageRow], trials: TrialStore) -> str | None:
    """Say why one more planned trial does not fit the device hours of the whole study; None where it does."""
    limit = spec.budget.hours
    if limit is None:
        return None
    hours = device_hours(stages, trials)
    if hours.used + hours.due <= limit:
        return None
    said = f"{hours.used:.3f} are used and {hours.due:.3f} more would be spoken for"
    return f"the study may take {limit:.4g} device hours, and {said}"
