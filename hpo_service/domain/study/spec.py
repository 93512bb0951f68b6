"""The study file as data, checked: what it says fits together."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ValidationInfo, model_validator

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.rules import rules_for
from hpo_service.domain.study.validation import Violations

STORED = {"stored": True}
"""Context in which a study is validated that was created before: limits that came later do not make it unreadable."""


class StudySpec(StudyFields):
    """Everything a study file says."""

    @model_validator(mode="before")
    @classmethod
    def _own_objectives_start_from_an_empty_space(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("objective") is not None:
            space = data.get("space", {})
            if isinstance(space, dict) and "preset" not in space:
                return {**data, "space": {**space, "preset": "none"}}
        return data

    @model_validator(mode="before")
    @classmethod
    def _of_metrics_more_is_better(cls, data: Any) -> Any:
        """A study that selects on a metric maximises it, unless the file says that less of its own metric is better."""
        evaluation, search = (
            data.get(name, {}) if isinstance(data, dict) else None for name in ("evaluation", "search")
        )
        if isinstance(evaluation, dict) and isinstance(search, dict) and evaluation.get("select") is not None:
            return {**data, "search": {"direction": Direction.MAXIMIZE.value, **search}}
        return data

    @model_validator(mode="after")
    def _sections_fit_together(self, info: ValidationInfo) -> Self:
        wrong = Violations()
        for rule in rules_for(self, stored=info.context == STORED):
            rule(self, wrong)
        wrong.settle("StudySpec")
        return self
