"""What mattered in a study's search."""

from __future__ import annotations

import math

from hpo_service.domain.trial.states import TrialState
from hpo_service.service.studies.snapshot import StudySnapshot

FEWEST = 12
"""Complete trials below which nothing is said: a quarter of them is three."""


def importance_of(snapshot: StudySnapshot) -> dict[str, float]:
    """Return each searched parameter's share of what told the best from the rest; empty where too few trials say so.

    Of trials that were stopped early the values are not comparable, so they are left out.
    """
    from hpo_service.search.importance import importances

    view = snapshot.where(lambda rule: rule.proposes)
    measured = [
        (trial.parameters, trial.value)
        for trial in (view.trials if view else [])
        if trial.state is TrialState.COMPLETE and trial.value is not None and math.isfinite(trial.value)
    ]
    if len(measured) < FEWEST:
        return {}
    return importances(snapshot.spec.space.resolve(), snapshot.spec.search.direction, measured)
