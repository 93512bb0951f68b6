"""What limits and several goals ask of a study: that costs are measured, and that nothing looks at the loss alone."""

from __future__ import annotations

from collections.abc import Iterable

from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.protocol import PROTOCOLS, StageRule, stages_of
from hpo_service.domain.study.sections.search import COMPARING
from hpo_service.domain.study.validation import Violations

OWN = ("seconds",)
"""What an objective of the user's own is known to cost."""

OF_ONE_VALUE = ("cma-es",)
"""Samplers that learn, and cannot learn from several goals."""


def costs_are_measured(study: StudyFields, wrong: Violations) -> None:
    """Limits and goals are of what is known of every trial."""
    search, side_by_side = study.search, study.search.parallel_per_gpu
    given = search.constraints.given()
    for name in sorted(search.weighed):
        place = ("search", "constraints", name) if name in given else ("search", "goals")
        if study.objective is not None and name not in OWN:
            wrong.add(f"{name} of an objective of your own is not measured: drop it, or use {OWN[0]}", *place)
        elif name != "adapter_mb" and side_by_side not in ("auto", 1):
            reason = f"{name} cannot be told of trials that share a device"
            wrong.add(f"{reason}: set search.parallel_per_gpu to 1 or auto", *place)


def nothing_looks_at_the_loss_alone(study: StudyFields, wrong: Violations) -> None:
    """With several goals a search neither stops nor chooses by one of them."""
    search = study.search
    if not search.costs:
        return
    if search.pruner in COMPARING and "pruner" in search.model_fields_set:
        reason = f"{search.pruner} compares losses, and who is worse there may be better in {search.costs[0]}"
        wrong.add(f"{reason}: leave it out, or use none", "search", "pruner")
    if search.sampler in OF_ONE_VALUE:
        wrong.add(f"{search.sampler} learns from one value: use gp, tpe or nsga-ii", "search", "sampler")
    if search.stop_when_gain_below is not None:
        wrong.add("is of the loss alone: leave it out, or have one goal", "search", "stop_when_gain_below")
    if search.warm_start is not None:
        reason = "another study's costs are of other runs"
        wrong.add(f"{reason}: leave it out, or have one goal", "search", "warm_start")
    if not _searches_freely(stages_of(study)):
        fitting = [name for name, protocol in PROTOCOLS.items() if _searches_freely(protocol.stages)]
        reason = f"{study.protocol} goes on with what has the best loss, and a front needs a search: use one of "
        wrong.add(reason + ", ".join(fitting), "protocol")


def _searches_freely(stages: Iterable[StageRule]) -> bool:
    """Whether there is a search, and none around what another stage found best."""
    proposing = [rule for rule in stages if rule.proposes]
    return bool(proposing) and not any(rule.plan for rule in proposing)
