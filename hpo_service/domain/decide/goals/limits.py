"""Whether a trial kept the limits of its study, and by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hpo_service.domain.decide.goals.costs import COSTS
from hpo_service.domain.study.sections.search import ConstraintsSpec
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.report import Report

SECTION = "search.constraints"


def excesses(constraints: ConstraintsSpec, facts: RunFacts) -> Mapping[str, float]:
    """Return by limit how far a run is beyond it: the logarithm of cost over limit, above 0 where it is broken.

    What is not known is left out. In the logarithm limits of different units weigh alike, and a model of the excess
    does not see twice the limit as farther away than half of it.
    """
    spent = {name: COSTS[name].of(facts) for name in constraints.given()}
    return {
        name: math.log(max(amount, 1e-9) / limit)
        for name, limit in constraints.given().items()
        if (amount := spent[name]) is not None and math.isfinite(amount)
    }


def violation(constraints: ConstraintsSpec, facts: RunFacts) -> str:
    """Say which limits a run broke; nothing where it kept all of which it is known."""
    broken = [name for name, excess in excesses(constraints, facts).items() if excess > 0]
    said = [over(name, COSTS[name].of(facts) or 0.0, constraints.given()[name]) for name in broken]
    return "; ".join(said)


def over_already(constraints: ConstraintsSpec, report: Report, share: float = 1.0) -> str:
    """Say which limit a run that goes on has broken for good; nothing where it may still keep all, or is at its end.

    What it has cost so far only grows, so no later step brings it back. A resumed run reports the seconds of its last
    attempt alone: fewer than it took, and never too many.

    Args:
        constraints: the limits.
        report: its latest.
        share: of the training rows that it is given; limits are of runs on all rows.
    """
    if report.fraction >= 1:
        return ""
    for name, limit in constraints.given().items():
        spent = report.metrics.get(COSTS[name].reported, 0.0) / (share if name == "seconds" else 1.0)
        if spent > limit:
            return f"{over(name, spent, limit)}: after {report.fraction:.0%} of the run already, so it cannot be chosen"
    return ""


def over(name: str, amount: float, limit: float) -> str:
    """Say that a cost is over its limit."""
    cost = COSTS[name]
    return f"{cost.said(amount)}, and {SECTION}.{name} allows {limit:g} {cost.unit}"
