"""The Pareto front of a study with several goals, as plain data."""

from __future__ import annotations

from typing import Any

from hpo_service.service.studies.findings.front import STAYS_ON_LOSS, Front, front_of
from hpo_service.service.studies.snapshot import StudySnapshot


def front_document(snapshot: StudySnapshot) -> dict[str, Any] | None:
    """Return the trials on the front with what they reached in each goal, by its name; None without several goals."""
    front = front_of(snapshot)
    return None if front is None else _document(front)


def _document(front: Front) -> dict[str, Any]:
    trials = [
        {
            "number": point.trial.number,
            "parameters": point.trial.parameters,
            **dict(zip(front.goals, point.values, strict=True)),
        }
        for point in front.best
    ]
    return {
        "stage": front.stage,
        "goals": front.goals,
        "reason": f"{front.reason}; {STAYS_ON_LOSS}",
        "trials": trials,
    }
