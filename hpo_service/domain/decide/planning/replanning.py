"""What a new plan asks of a stage that has trials already: nothing that was measured is measured again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from hpo_service.domain.study.search_space import ParameterValue, canonical_key
from hpo_service.domain.trial.planned import PlannedTrial
from hpo_service.domain.trial.states import TrialState

DEFAULT_ROLE, WINNER_ROLE = "default", "winner"
NOT_PLANNED = "not planned any more"
"""How the reason begins of a waiting trial that a new plan left out; a later plan may take it up again."""


@dataclass(frozen=True)
class Standing:
    """A trial that a stage has."""

    id: int
    role: str
    label: str
    parameters: dict[str, ParameterValue]
    seed: int
    state: TrialState
    reason: str = ""
    share: float = 1.0


@dataclass(frozen=True)
class Replanned:
    """What is to be done with a stage.

    Attributes:
        added: trials that it lacks.
        again: ids of trials that an earlier plan had left out, and that are wanted after all.
        left_out: ids of waiting trials that are not wanted any more.
        kept: how many trials of the plan it has: measured, at work or waiting.
    """

    added: list[PlannedTrial]
    again: list[int]
    left_out: list[int]
    kept: int

    @property
    def sentence(self) -> str:
        """Say it in words."""
        said = [f"{self.kept} of the planned trials are there", f"{len(self.added) + len(self.again)} are added"]
        return ", ".join([*said, *([f"{len(self.left_out)} that waited are left out"] if self.left_out else [])])


def replanned(planned: Sequence[PlannedTrial], standing: Sequence[Standing]) -> Replanned:
    """Compare a plan with the trials that a stage has.

    A trial is the same where role, configuration, seed and share of the rows are. The default that was run stays the
    one to beat, and a winner that is new gets the next free number, so that the runs of two configurations never have
    one name.
    """
    wanted = _renamed(planned, standing)
    there = {_identity(trial): trial for trial in standing}
    # what a sampler proposed meanwhile need not be planned as well
    keys_there = {canonical_key(trial.parameters) for trial in standing}
    keys = {_identity(trial) for trial in wanted}
    met = [trial for key, trial in there.items() if key in keys]
    again = [t.id for t in met if t.state is TrialState.CANCELLED and t.reason.startswith(NOT_PLANNED)]
    return Replanned(
        added=[t for t in wanted if _identity(t) not in there and t.dedupe_key not in keys_there],
        again=again,
        left_out=[t.id for key, t in there.items() if key not in keys and t.state is TrialState.WAITING],
        kept=len(met) - len(again),
    )


def _identity(trial: PlannedTrial | Standing) -> tuple[str, str, int, float]:
    return trial.role, canonical_key(trial.parameters), trial.seed, trial.share


def _renamed(planned: Sequence[PlannedTrial], standing: Sequence[Standing]) -> list[PlannedTrial]:
    """Give winners and default of a plan the names that their configurations have, or new ones."""
    names = {canonical_key(t.parameters): t.label for t in standing if t.role == WINNER_ROLE}
    default = next((t.parameters for t in standing if t.role == DEFAULT_ROLE), None)

    def named(trial: PlannedTrial) -> PlannedTrial:
        if trial.role == DEFAULT_ROLE and default is not None:
            return replace(trial, parameters=default)
        if trial.role != WINNER_ROLE:
            return trial
        label = names.setdefault(canonical_key(trial.parameters), _free(names.values()))
        return replace(trial, label=label, reason=trial.reason.replace(trial.label, label, 1))

    return [named(trial) for trial in planned]


def _free(taken: Collection[str]) -> str:
    return next(label for n in range(1, len(taken) + 2) if (label := f"{WINNER_ROLE} {n}") not in taken)
