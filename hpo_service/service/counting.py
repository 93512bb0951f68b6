"""How much there is of everything, for those who watch from afar."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.storage.database import Database
from hpo_service.storage.overview.counts import Counts, CountStore

__all__ = ["Counting", "Counts"]


@dataclass(frozen=True)
class Counting:
    """Counts; changes nothing."""

    db: Database
    rows: CountStore

    def all(self) -> Counts:
        """Count studies, trials and workers as they are now."""
        with self.db.transaction(read_only=True):
            return self.rows.all()
