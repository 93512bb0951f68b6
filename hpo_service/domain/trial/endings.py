"""How an attempt at a trial can end: one table, from which everything that tells endings apart reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hpo_service.domain.trial.states import OutcomeKind, TrialEvent, TrialState

Told = Literal["COMPLETE", "PRUNED", "FAIL"]
"""States of a trial that has ended, as Optuna names them."""

Tracked = Literal["FINISHED", "FAILED", "KILLED"]
"""Statuses of a run that has ended, as experiment trackers name them."""


@dataclass(frozen=True)
class Ending:
    """One way in which an attempt ends.

    Attributes:
        event: what happens to the trial.
        state: where that leaves it; waiting where another attempt follows.
        closed_as: what the attempt is stored as.
        outcome: what its holder says that ends it this way, if a holder can say so.
        else_of: other things a holder may say after which it ends this way all the same: it was asked to stop, or
            has no attempts left.
        optuna: the trial's state in Optuna's study; None where it goes on there as running. Samplers learn from
            complete and pruned trials and never see failed ones.
        tracked: the run's status with experiment trackers.
        counts: which of the trial's counters it raises.
        label: a word for people.
        style: colour of that word on a terminal.
    """

    event: TrialEvent
    state: TrialState
    closed_as: str
    outcome: OutcomeKind | None
    optuna: Told | None
    tracked: Tracked
    label: str
    style: str
    else_of: frozenset[OutcomeKind] = frozenset()
    counts: Literal["errors", "losses"] | None = None

    @property
    def teaches(self) -> bool:
        """Whether the trial's values say something about its configuration, to samplers and to its peers."""
        return self.optuna in ("COMPLETE", "PRUNED")


_E, _S, _O = TrialEvent, TrialState, OutcomeKind
_ROWS = (
    Ending(_E.COMPLETE, _S.COMPLETE, "complete", _O.COMPLETE, "COMPLETE", "FINISHED", "done", "green"),
    Ending(_E.PRUNE, _S.PRUNED, "pruned", _O.PRUNED, "PRUNED", "FINISHED", "pruned", "yellow"),
    # a configuration that does not fit the device must teach the sampler, so it is not FAIL
    Ending(_E.INFEASIBLE, _S.INFEASIBLE, "infeasible", _O.INFEASIBLE, "PRUNED", "FAILED", "infeasible", "magenta"),
    Ending(_E.GIVE_UP, _S.FAILED, "failed", None, "FAIL", "FAILED", "failed", "red", else_of=frozenset({_O.ERROR})),
    Ending(
        _E.CANCEL,
        _S.CANCELLED,
        "cancelled",
        _O.CANCELLED,
        "FAIL",
        "KILLED",
        "cancelled",
        "red",
        else_of=frozenset({_O.ERROR, _O.RELEASED}),
    ),
    Ending(_E.ERROR, _S.WAITING, "error", _O.ERROR, None, "FAILED", "error", "red", counts="errors"),
    Ending(_E.EXPIRE, _S.WAITING, "loss", None, None, "KILLED", "lost", "red", counts="losses"),
    Ending(_E.RELEASE, _S.WAITING, "release", _O.RELEASED, None, "KILLED", "released", "blue"),
)

ENDINGS: Mapping[TrialEvent, Ending] = {row.event: row for row in _ROWS}
"""Every way in which an attempt ends, by what happens to its trial."""

FINAL: Mapping[TrialState, Ending] = {row.state: row for row in _ROWS if row.state.final}
"""The ending that brings a trial to each final state."""

SAID: Mapping[OutcomeKind, Ending] = {row.outcome: row for row in _ROWS if row.outcome is not None}
"""The ending that each outcome of a holder asks for."""

STORED: Mapping[str, Ending] = {row.closed_as: row for row in _ROWS}
"""Endings by what an attempt is stored as."""

LABELS: Mapping[TrialState, str] = {
    **{state: row.label for state, row in FINAL.items()},
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
"""A word for each state, for people."""

STYLES: Mapping[TrialState, str] = {
    TrialState.COMPLETE: FINAL[TrialState.COMPLETE].style,
    TrialState.RUNNING: "cyan",
    **{state: row.style for state, row in FINAL.items()},
    TrialState.WAITING: "blue",
}
"""The colour of each state on a terminal, in the order in which people read them."""


def ends_so(kind: OutcomeKind) -> frozenset[str]:
    """Return what an attempt may have been stored as after its holder told of such an outcome."""
    return frozenset(row.closed_as for row in _ROWS if kind is row.outcome or kind in row.else_of)
