"""The Pareto front of a study with several goals, in words and as a table."""

from __future__ import annotations

from hpo_service.domain.decide.goals.costs import COSTS
from hpo_service.presentation.formatting import configuration, number
from hpo_service.presentation.text_table import TextTable
from hpo_service.service.studies.findings.front import STAYS_ON_LOSS, Front

MOST = 30
"""Rows that are listed of a front; the document has all of them."""


def goal_label(goal: str) -> str:
    """Name a goal with its unit, as a column's head or an axis."""
    return f"{COSTS[goal].label}, {COSTS[goal].unit}" if goal in COSTS else goal


def front_table(front: Front) -> TextTable:
    """Lay out the trials on the front, the best loss first, with what each reached in each goal."""
    rows = [
        [
            f"#{point.trial.number}",
            *(f"{value:.4f}" if place == 0 else number(value) for place, value in enumerate(point.values)),
            configuration(point.trial.parameters),
        ]
        for point in front.best[:MOST]
    ]
    return TextTable(["trial", *map(goal_label, front.goals), "configuration"], rows)


def front_sentence(front: Front) -> str:
    """Say what the front is, and what it does not decide."""
    return f"Pareto front of {front.stage}: {front.reason}; {STAYS_ON_LOSS}."
