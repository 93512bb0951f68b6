"""Which sections a study needs, and what makes one of them pointless."""

from __future__ import annotations

from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.protocol import PROTOCOLS, planned_trials, stages_of
from hpo_service.domain.study.sections.evaluation import METRICS
from hpo_service.domain.study.validation import Violations


def model_and_data_are_given(study: StudyFields, wrong: Violations) -> None:
    """The built-in trainer needs a model and rows."""
    if study.model is None:
        wrong.add("is missing: name model.base, or give an objective of your own", "model")
    if study.data is None:
        wrong.add("is missing: name data.source", "data")


def a_loss_is_minimised(study: StudyFields, wrong: Violations) -> None:
    """The built-in trainer's values are losses, or what of a metric of ours is better the more there is."""
    maximized, selected = study.search.direction.maximize, study.evaluation.select
    if maximized and selected is None:
        reason = "maximize is for objectives of your own and evaluation.select: a loss is minimised"
        wrong.add(reason, "search", "direction")
    if not maximized and selected in METRICS:
        wrong.add(f"of {selected} more is better: drop direction", "search", "direction")


def what_is_selected_on_can_be_measured(study: StudyFields, wrong: Violations) -> None:
    """Answers take rows with a prompt, of which only what follows is learned."""
    if study.evaluation.select is None or study.data is None:
        return
    place = ("evaluation", "select")
    if study.data.format == "text":
        wrong.add("rows of format text have no prompts to answer: drop select, or give rows with prompts", *place)
    elif study.data.learn == "all":
        reason = "with data.learn all the prompts are learned too, and nothing is left to ask with"
        wrong.add(f"{reason}: set data.learn to completions, or drop select", *place)


def something_is_searched(study: StudyFields, wrong: Violations) -> None:
    """A space has parameters."""
    if not study.space.resolve().parameters:
        wrong.add("nothing is searched: list parameters under space.parameters or choose a preset", "space")


def a_grid_is_finite(study: StudyFields, wrong: Violations) -> None:
    """A grid is gone through point by point."""
    space = study.space.resolve()
    proposed = [rule.search(study).sampler for rule in stages_of(study) if rule.proposes]
    if "grid" in proposed and space.size() is None:
        endless = ", ".join(space.endless())
        reason = f"grid needs a finite space: give {endless} a step or choices, or use gp"
        wrong.add(reason, *(("protocol",) if study.protocol == "grid" else ("search", "sampler")))


def a_protocol_has_its_sampler(study: StudyFields, wrong: Violations) -> None:
    """A protocol that stands for a sampler is not given another one."""
    sampler = PROTOCOLS[study.protocol].sampler
    if sampler and "sampler" in study.search.model_fields_set and study.search.sampler != sampler:
        wrong.add(f"protocol {study.protocol} proposes by {sampler}: drop search.sampler, or the protocol", "protocol")


def a_share_of_the_rows_can_be_had(study: StudyFields, wrong: Violations) -> None:
    """Only the built-in trainer can be asked for a share of the rows."""
    if study.objective is not None and PROTOCOLS[study.protocol].built_in:
        others = ", ".join(name for name, protocol in PROTOCOLS.items() if not protocol.built_in)
        reason = f"{study.protocol} trains on shares of the rows, which an objective of your own is not asked to do"
        wrong.add(f"{reason}: use one of {others}", "protocol")


def the_budget_leaves_a_search(study: StudyFields, wrong: Violations) -> None:
    """What the whole study may take is more than what proves its result."""
    whole, behind = study.budget.trials, planned_trials(study)
    if whole is not None and whole < behind + any(rule.proposes for rule in stages_of(study)):
        reason = f"{whole} trials leave none for the search, since the stages behind it may take {behind}"
        wrong.add(f"{reason}: allow more, or lower transfer.top, confirm.seeds or confirm.top", "budget", "trials")


def metrics_and_trackers_are_of_use(study: StudyFields, wrong: Violations) -> None:
    """Metrics are measured in stages that the study has; an objective of the user's own does both itself."""
    if study.objective is not None:
        if study.evaluation.metrics:
            wrong.add("an objective of your own measures what it likes: drop evaluation", "evaluation", "metrics")
        if study.evaluation.select is not None:
            wrong.add("an objective of your own reports what is selected on: drop select", "evaluation", "select")
        if study.tracking.trackers:
            wrong.add("an objective of your own tells trackers itself: drop tracking", "tracking", "trackers")
        return
    held = {rule.name for rule in stages_of(study)}
    beside = [name for name in study.evaluation.metrics if name != study.evaluation.select]
    if beside and held.isdisjoint(study.evaluation.stages):
        remedy = "switch confirm on, or name a model.target and evaluation.stages: [verify]"
        reason = f"no trial would be measured, for this study has no {' or '.join(study.evaluation.stages)} stage"
        wrong.add(f"{reason}: {remedy}", "evaluation", "stages")
