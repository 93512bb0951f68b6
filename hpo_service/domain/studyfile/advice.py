"""What in a valid study file is probably not meant: warnings, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from hpo_service.domain.decide.pruning import longest_warmup, rung_step
from hpo_service.domain.decide.start.beginning import (
    beginnings,
    default_beyond,
    default_inside,
    default_outside,
)
from hpo_service.domain.study.combinations import MOST_LOOKED_AT, combinations
from hpo_service.domain.study.families import billions, family_of
from hpo_service.domain.study.hyperparameters import SEARCHABLE
from hpo_service.domain.study.methods import METHODS, ONLY_FOR
from hpo_service.domain.study.protocol import stages_of
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.tracking import TRACKER_PACKAGES
from hpo_service.domain.study.sources import Surroundings
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.document import KeyPath

FEW_TRIALS = 10
"""Below this many trials TPE learns too little to be better than chance; the Gaussian process does not."""
LEARNING = ("gp", "tpe")
"""Samplers that start-up trials are for."""
FEWEST_EVALUATIONS = 3
"""Of a run: a slope takes two, and at the last there is nothing left to save."""
USUAL_EVALUATIONS = 8
FEWEST_EXAMPLES = 50
"""Rows of which exact match moves in steps of 2 points."""

Advice = Iterator[tuple[KeyPath, str]]


def advise(spec: StudySpec, around: Surroundings) -> list[tuple[KeyPath, str]]:
    """Collect the warnings about a study as it was written, each with the path of the key it is about."""
    return [*_models(spec, around), *_trackers(spec, around), *(found for rule in RULES for found in rule(spec))]


def _models(spec: StudySpec, around: Surroundings) -> Advice:
    if spec.model is None or spec.model.target is None:
        return
    base, target = spec.model.base, spec.model.target
    small, large = family_of(base, around), family_of(target, around)
    if base == target:
        yield ("model", "target"), "is the base itself: verify would repeat the search; drop the target"
    elif small and large and small.is_other(large):
        reason = f"{large} is another family than the base's {small}: no rule carries a learning rate across"
        yield ("model", "target"), f"{reason}; search on a small {large} model, or widen transfer.bracket"
    sizes = billions(base), billions(target)
    if sizes[0] is not None and sizes[1] is not None and sizes[0] > sizes[1]:
        yield ("model", "target"), f"is smaller than the base ({base}): are the two swapped?"


def _trackers(spec: StudySpec, around: Surroundings) -> Advice:
    for index, name in enumerate(spec.tracking.trackers):
        if not around.installed(TRACKER_PACKAGES[name]):
            reason = f"{TRACKER_PACKAGES[name]} is not installed here; where trials are trained without it, they are"
            remedy = "pip install 'hpo-service[trackers]'"
            yield ("tracking", "trackers", index), f"{reason} not tracked by {name}: {remedy}"


def _few_trials(spec: StudySpec) -> Advice:
    trials, startup = spec.search.budget.trials, spec.search.startup_trials
    if spec.search.sampler not in LEARNING:
        return
    if trials < FEW_TRIALS and spec.search.sampler == "tpe":
        remedy = "use sampler gp, or 15 to 20 trials"
        yield ("search", "budget", "trials"), f"with {trials} trials random search is as good as TPE; {remedy}"
    elif startup >= trials:
        reason = f"all {trials} trials are start-up trials, which fill the space and learn nothing"
        yield ("search", "startup_trials"), f"{reason}; 5 are usual"


def _beginning(spec: StudySpec) -> Advice:
    beyond = default_beyond(spec)
    for name, (value, why) in default_outside(spec).items():
        instead = "search begins without it" if beyond else f"search begins with {default_inside(spec)[name]}"
        remedy = f"widen the range to hold it, or give confirm.default a {name} of your own"
        yield _place(spec, "space", name), f"the default, {value}, {why}: {instead}; {remedy}"
    first, trials = len(beginnings(spec)), spec.search.budget.trials
    if first > trials:
        reason = f"{first} configurations come first, and the budget has {trials} trials"
        yield ("search", "enqueue"), f"{reason}: the last are never run; enqueue fewer, or raise the budget"


def _small_space(spec: StudySpec) -> Advice:
    size, trials = spec.space.resolve().size(), spec.search.budget.trials
    if size is not None and size < trials:
        reason = f"the space has only {size} configurations"
        yield ("search", "budget", "trials"), f"{reason}: {trials} trials repeat some; lower trials or widen it"


def _evaluations(spec: StudySpec) -> Advice:
    if spec.search.pruner != "early_exit" or spec.objective is not None:
        return
    evaluations = spec.training.evaluations_per_epoch * spec.training.epochs
    warmup = longest_warmup(spec.space.resolve(), default=spec.training.warmup_ratio)
    if evaluations < FEWEST_EVALUATIONS or (evaluations - 1) / evaluations < warmup:
        reason = "pruner early_exit can stop nobody: it needs two evaluations, after the longest warm-up and before the"
        yield ("training", "evaluations_per_epoch"), f"{reason} last of a run; raise it, {USUAL_EVALUATIONS} are usual"


def _rungs(spec: StudySpec) -> Advice:
    if spec.search.pruner != "halving" and "rungs" in spec.search.model_fields_set:
        yield ("search", "rungs"), f"are read by pruner halving alone, not by {spec.search.pruner}; drop them"
    if spec.search.pruner != "halving" or spec.objective is not None:
        return
    evaluations = spec.training.evaluations_per_epoch * spec.training.epochs
    warmup = longest_warmup(spec.space.resolve(), default=spec.training.warmup_ratio)
    taken: dict[int, float] = {}
    for index, rung in enumerate(spec.search.rungs):
        place: KeyPath = ("search", "rungs", index)
        step = rung_step(rung, evaluations)
        if step >= evaluations:
            reason = f"the first of {evaluations} evaluations at or after {rung:.0%} is the last"
            yield place, f"{reason}, where nothing is left to stop; raise training.evaluations_per_epoch"
        elif step / evaluations < warmup:
            reason = f"warm-up may last for {warmup:.0%} of the run, longer than the rung at {rung:.0%}"
            yield place, f"{reason}, which is skipped; shorten warmup_ratio or move the rung"
        elif step in taken:
            reason = f"falls on the same evaluation as the rung at {taken[step]:.0%}"
            yield place, f"{reason}; raise training.evaluations_per_epoch or drop it"
        taken.setdefault(step, rung)


def _fixed_and_searched(spec: StudySpec) -> Advice:
    space = spec.space.resolve().parameters
    for name in sorted(spec.training.model_fields_set & SEARCHABLE & space.keys()):
        remedy = f"to fix it, write `{name}: null` under space.parameters"
        yield ("training", name), f"is searched too, so this value is not used in search; {remedy}"


def _unread(spec: StudySpec) -> Advice:
    """Parameters that are sampled where no run reads them: a sampler would learn from noise."""
    if spec.objective is not None:
        return
    fixed, never = spec.training.hyperparameters(), dict[str, list[str]]()
    for name in spec.space.resolve().parameters:
        selector, read_by = ONLY_FOR.get(name, ("", frozenset()))
        if not selector:
            continue
        found = {str(each.get(selector, getattr(fixed, selector))) for each in _sampled(spec, name, selector)}
        if not found & read_by:
            never.setdefault(f"{selector} {' and '.join(sorted(found))}", []).append(name)
        elif found - read_by:
            reason = (
                f"{name} is sampled with {selector} {', '.join(sorted(found - read_by))} too, which does not read it"
            )
            listed = ", ".join(sorted(found & read_by))
            yield ("space",), f"{reason}; add when: {{{selector}: [{listed}]}}"
    for selected, names in never.items():
        reason = f"{selected} does not read {', '.join(sorted(names))}, so searching that wastes trials"
        method = METHODS.get(selected.removeprefix("method "))
        yield ("space",), f"{reason}; {f'use preset {method.preset}' if method else 'take it out with null'}"


def _sampled(spec: StudySpec, name: str, selector: str) -> list[dict[str, ParameterValue]]:
    possible = combinations(spec.space.resolve(), {name, selector})
    return [each for each in islice(possible, MOST_LOOKED_AT) if name in each]


def _learning_rates(spec: StudySpec) -> Advice:
    if spec.objective is not None:
        return
    fixed, seen = spec.training.hyperparameters(), dict[str, list[float]]()
    for each in islice(combinations(spec.space.resolve(), {"method", "learning_rate"}), MOST_LOOKED_AT):
        rate = each.get("learning_rate", fixed.learning_rate)
        seen.setdefault(str(each.get("method", fixed.method)), []).append(float(rate))
    for name, given in seen.items():
        usual = METHODS[name].rates
        if min(given) >= usual.high or max(given) <= usual.low:
            which = "above" if min(given) >= usual.high else "below"
            place = ("space" if "learning_rate" in spec.space.resolve().parameters else "training", "learning_rate")
            advice = f"is {which} what guides give for method {name}, {usual.low:g} to {usual.high:g}"
            yield _place(spec, *place), f"{advice}; start at {usual.start:g}"


def _place(spec: StudySpec, section: str, name: str) -> KeyPath:
    if section == "training":
        return (section, name)
    return (section, "parameters", name) if name in spec.space.parameters else (section,)


def _transfer_without_target(spec: StudySpec) -> Advice:
    if "transfer" in spec.model_fields_set and not any(rule.carries_over for rule in stages_of(spec)):
        yield ("transfer",), "has no effect without model.target"


def _selected(spec: StudySpec) -> Advice:
    """Say what follows from selecting on a metric: how coarse it is, and that it is not what losers are stopped by."""
    name, place = spec.evaluation.select, ("evaluation", "select")
    if name is None:
        return
    if any(rule.prunes and rule.search(spec).pruner != "none" for rule in stages_of(spec)):
        reason = "losers are stopped by their validation loss half-way, and the metric decides among those that end"
        yield place, f"{reason}; set search.pruner to none where the loss says little of the metric"
    rows = spec.evaluation.examples
    if name == "exact_match" and rows < FEWEST_EXAMPLES:
        step = f"moves in steps of {100 / rows:.2g} points, so that many trials are equal"
        yield ("evaluation", "examples"), f"of {rows} rows exact match {step}; answer {FEWEST_EXAMPLES} or more"


RULES: tuple[Callable[[StudySpec], Advice], ...] = (
    _few_trials,
    _small_space,
    _evaluations,
    _rungs,
    _fixed_and_searched,
    _unread,
    _learning_rates,
    _transfer_without_target,
    _beginning,
    _selected,
)
"""Warnings that follow from the file alone."""
