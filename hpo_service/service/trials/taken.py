"""The configurations that a stage's trials have, as a sampler asks for them."""

from __future__ import annotations

from functools import cached_property

from hpo_service.storage.database import Database
from hpo_service.storage.trial.trials import TrialStore


class TakenKeys:
    """Tells of canonical keys whether a trial has them, for as long as one proposal is looked for.

    The first key is looked up alone, for nearly always it is free. Where it is taken, many more may follow: then all
    of the stage's are read, once.
    """

    def __init__(self, db: Database, trials: TrialStore, stage_id: int) -> None:
        self._db, self._trials, self._stage_id = db, trials, stage_id
        self._asked = False

    def __contains__(self, key: str) -> bool:
        """Whether a trial of the stage has this configuration."""
        if self._asked:
            return key in self._all
        self._asked = True
        with self._db.transaction(read_only=True):
            return self._trials.find_key(self._stage_id, key) is not None

    @cached_property
    def _all(self) -> set[str]:
        with self._db.transaction(read_only=True):
            return self._trials.tallies.keys(self._stage_id)
