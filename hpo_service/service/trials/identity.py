"""Which trial it is: told apart from those of the same name in studies, or databases, that were deleted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hpo_service.storage.database import Database
from hpo_service.storage.trial.trials import TrialRow, TrialStore


def identity_of(trial: TrialRow) -> str:
    """Name a trial for ever: rows of one database never come back, and those of another are of another time."""
    return f"study {trial.study_id}, trial {trial.id} of {trial.created_at!r}"


@dataclass(frozen=True)
class EndedTrials:
    """Tells which trials have ended, for whoever finds files of them."""

    db: Database
    trials: TrialStore

    def among(self, identities: Collection[str]) -> frozenset[str]:
        """Return those of these trials that have ended; of one that is not in this database nothing is known."""
        ids = {number for each in identities if (number := _row(each)) is not None}
        with self.db.transaction(read_only=True):
            found = self.trials.among(ids)
        return frozenset(identity_of(trial) for trial in found if trial.state.final).intersection(identities)


def _row(identity: str) -> int | None:
    number = identity.partition(", trial ")[2].partition(" ")[0]
    return int(number) if number.isdecimal() and len(number) < 19 else None
