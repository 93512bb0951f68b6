"""A trial, its attempts and its reports as stored. Times are seconds since 1970 by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.trial.assignment import Lease
from hpo_service.domain.trial.states import TrialState
from hpo_service.storage import schema
from hpo_service.storage.upsert import columns_of


@dataclass(frozen=True)
class TrialRow:
    """A trial. `attempt` and `token` grow with every claim; `errors` and `losses` count attempts without a result.

    `ordinal` is its place in the stage, from 0; `number` its Optuna trial's, from the first claim on.
    `device_seconds` counts finished attempts.
    """

    id: int
    study_id: int
    stage_id: int
    ordinal: int
    number: int | None
    optuna_id: int | None
    state: TrialState
    role: str
    label: str
    parameters: dict[str, ParameterValue]
    dedupe_key: str | None
    seed: int
    origin_id: int | None
    copied_from: int | None
    score_test: bool
    keep_adapter: bool
    attempt: int
    token: int
    worker_id: str | None
    lease_until: float | None
    errors: int
    losses: int
    progress: float
    value: float | None
    reason: str
    cancel_reason: str | None
    adapter: str | None
    facts: dict[str, float | int | str | None]
    created_at: float
    started_at: float | None
    ended_at: float | None
    device_seconds: float

    @property
    def lease(self) -> Lease:
        """The lease of whoever holds this claim of the trial."""
        return Lease(trial_id=self.id, token=self.token)

    @classmethod
    def read(cls, row: Row[Any]) -> TrialRow:
        """Make one from a row of `hpo_trial`."""
        values = columns_of(schema.trial, row)
        values["state"] = TrialState(values["state"])
        return cls(**values)


@dataclass(frozen=True)
class AttemptRow:
    """One claim of a trial: by whom, how it ended (None while it runs), and the device time it took."""

    id: int
    trial_id: int
    attempt: int
    token: int
    worker_id: str
    devices: float
    started_at: float
    ended_at: float | None
    outcome: str | None
    reason: str
    device_seconds: float | None


@dataclass(frozen=True)
class ReportRow:
    """One evaluation of a trial; `value` is None where it was not finite, and `note` says what it was."""

    trial_id: int
    step: int
    attempt: int
    fraction: float
    value: float | None
    note: str
    metrics: dict[str, float | None]
    reported_at: float
