"""Whether a trial kept the limits of its study, and by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hpo_service.domain.decide.goals.costs import COSTS
from hpo_service.domain.study.sections.search import ConstraintsSpec
from hpo_service.domain.trial.facts import RunFacts

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


def over(name: str, amount: float, limit: float) -> str:
    """Say that a cost is over its limit."""
    cost = COSTS[name]
    return f"{cost.said(amount)}, and {SECTION}.{name} allows {limit:g} {cost.unit}"
