"""What an extension changes of the rows of a study and of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from sqlalchemy import update

from hpo_service.domain.study.search_space import SearchSpace
from hpo_service.domain.study.spec import STORED, StudySpec
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.clock import Now
from hpo_service.storage.studies import StageRow
from hpo_service.storage.values import plain

EARLIER = "earlier"
"""Where the search's plan keeps the study files that the study had before it was extended."""


class ExtensionStore:
    """Writes what a study and its stages may have from now on; every method belongs inside `database.transaction()`.

    The caller has locked the study, and notes the event.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    def earlier(search: StageRow) -> list[StudySpec]:
        """Return the study files that a study was made of and extended from; those alone that this version can read."""
        found = []
        for document in search.plan.get(EARLIER, []):
            with suppress(ValidationError):
                found.append(StudySpec.model_validate(document, context=STORED))
        return found

    def respecify(self, study_id: int, spec: StudySpec) -> None:
        """Write another study file of the study."""
        document = plain(spec.model_dump(mode="json", exclude_unset=True))
        changed = update(schema.study).where(schema.study.c.id == study_id)
        self._database.connection.execute(changed.values(spec=document, updated_at=Now()))

    def widen(self, stage_id: int, *, trials: int, gpu_hours: float | None, space: SearchSpace) -> None:
        """Write what a stage may have and what it searches."""
        changed = update(schema.stage).where(schema.stage.c.id == stage_id)
        written = {"space": plain(space.model_dump(mode="json")), "trials": trials, "gpu_hours": gpu_hours}
        self._database.connection.execute(changed.values(**written))

    def remember(self, stage_id: int, plan: Mapping[str, Any]) -> None:
        """Write what was decided for a stage."""
        self._database.connection.execute(
            update(schema.stage).where(schema.stage.c.id == stage_id).values(plan=plain(plan))
        )

    def replan(
        self, stage_id: int, *, trials: int, gpu_hours: float | None, space: SearchSpace, plan: Mapping[str, Any]
    ) -> None:
        """Write what a stage may have, what it searches and what was decided for it; see `StudyStore.open_stage`."""
        self.widen(stage_id, trials=trials, gpu_hours=gpu_hours, space=space)
        self.remember(stage_id, plan)
