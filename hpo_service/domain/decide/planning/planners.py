"""Who plans a stage: a table of planners."""

from __future__ import annotations

from collections.abc import Callable

from hpo_service.domain.decide.planning.carry_over import plan_carried
from hpo_service.domain.decide.planning.compare import plan_comparison
from hpo_service.domain.decide.planning.narrow import plan_narrowed
from hpo_service.domain.decide.planning.plan import Plan, Results
from hpo_service.domain.decide.planning.quick import plan_quick
from hpo_service.domain.decide.planning.recheck import plan_recheck
from hpo_service.domain.study.protocol import StageRule
from hpo_service.domain.study.spec import StudySpec

Planner = Callable[[StageRule, StudySpec, Results], Plan | None]
"""Asked when the stage before has ended, and again whenever all trials of its own have: None where it adds nothing."""

PLANNERS: dict[str, Planner] = {
    "carry over": plan_carried,
    "compare": plan_comparison,
    "narrow": plan_narrowed,
    "quick": plan_quick,
    "recheck": plan_recheck,
}
"""Planners, by the name that a stage's row gives."""
