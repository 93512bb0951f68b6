"""How often in a row trials of a study ended in an error on this worker: then the fault may be the worker's."""

from __future__ import annotations

from collections import defaultdict

from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.worker.held_trial import HeldTrial

IN_A_ROW = 3
"""Trials that must end in an error one after the other, with no success between, before a worker leaves their study."""


class Streak:
    """Counts trials, not attempts: one that fails whoever tries it says nothing about a worker.

    Pruned trials are successes; infeasible ones, lost leases and what was given back on order count neither way. A
    child that was ended from outside, whose trial is not charged, counts here each time.
    """

    def __init__(self) -> None:
        self._failed: dict[str, set[str]] = defaultdict(set)

    def note(self, held: HeldTrial, outcome: Outcome) -> str | None:
        """Take an end; return why the worker should leave the trial's study, once it should."""
        study = held.assignment.study
        if outcome.kind in (OutcomeKind.COMPLETE, OutcomeKind.PRUNED):
            self._failed.pop(study, None)
        elif outcome.kind is OutcomeKind.ERROR:
            self._failed[study].add(f"{held.assignment.stage} #{held.assignment.number}")
        elif held.unasked:
            self._failed[study].add(held.key)
        if len(self._failed[study]) < IN_A_ROW:
            return None
        del self._failed[study]
        return f"{IN_A_ROW} trials of study {study} in a row failed on this worker, the last with: {outcome.reason}"
