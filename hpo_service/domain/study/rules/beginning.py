"""What a search is told to begin with must be something that it could have proposed."""

from __future__ import annotations

from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.protocol import stages_of
from hpo_service.domain.study.search_space import ParameterValue, SearchSpace
from hpo_service.domain.study.space.membership import misfit
from hpo_service.domain.study.spelling import unknown
from hpo_service.domain.study.validation import Violations

UNLEARNING = ("random", "grid", "qmc")
"""Samplers that ask nothing of what was measured."""


def a_search_can_begin_so(study: StudyFields, wrong: Violations) -> None:
    """What a search begins with and ends by is of use where there is a search, and a sampler that learns."""
    search = study.search
    if search.warm_start == study.name:
        wrong.add("names this study itself: name another one, or leave it out", "search", "warm_start")
    if search.warm_start is not None and search.sampler in UNLEARNING:
        wrong.add(
            f"sampler {search.sampler} learns from nothing: use gp, tpe, cma-es or nsga-ii", "search", "warm_start"
        )
    if not any(rule.proposes for rule in stages_of(study)):
        given = [name for name in ("enqueue", "warm_start", "stop_when_gain_below") if getattr(search, name)]
        for name in given:
            wrong.add(f"protocol {study.protocol} has no search: leave it out", "search", name)


def enqueued_lie_in_the_space(study: StudyFields, wrong: Violations) -> None:
    """Each value of an enqueued configuration is one of a searched parameter that applies beside the others."""
    space = study.space.resolve()
    for index, given in enumerate(study.search.enqueue):
        for name, value in given.items():
            reason = _why_not(space, given, name, value)
            if reason:
                wrong.add(reason, "search", "enqueue", index, name)
        if study.objective is not None:
            _is_complete(study, space, given, index, wrong)


def _why_not(space: SearchSpace, given: dict[str, ParameterValue], name: str, value: ParameterValue) -> str:
    if name not in space.parameters:
        return unknown("parameter of this space", name, space.parameters)
    parameter = space.parameters[name]
    reason = misfit(parameter, value)
    if reason:
        return f"{value} {reason}: choose another value, or widen the space"
    lacking = [other for other in parameter.when if other in given and not parameter.applies({**given})]
    if lacking:
        return f"is not sampled beside {', '.join(f'{o} {given[o]}' for o in lacking)}: drop it, or change that"
    return ""


def _is_complete(
    study: StudyFields, space: SearchSpace, given: dict[str, ParameterValue], index: int, wrong: Violations
) -> None:
    """An objective of the user's own without `confirm.default` has nothing to fill gaps from."""
    missing = [name for name, _ in space.active(dict(given)) if name not in given]
    if missing and study.confirm.default is None:
        reason = f"lacks {', '.join(missing)}, and an objective of your own has no default"
        wrong.add(f"{reason}: give every parameter, or say confirm.default", "search", "enqueue", index)
