"""What the stages of a study take by a few steps that are timed on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import shorten

from hpo_service.domain.study.protocol import StageRule, stages_of
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import ChildError, TrialError
from hpo_service.service.advice.short_runs import Pace, configured_as, pace
from hpo_service.service.studies.ahead.outlay import Outlay

LONGEST_REASON = 160
"""Characters: libraries explain at length what is not on this machine."""
Timed = Callable[[StudySpec, str], Pace]
"""Times a study's runs on the model of this name."""


def timed_outlays(spec: StudySpec, known: Sequence[Outlay], timed: Timed) -> list[Outlay]:
    """Time what no earlier study tells; what cannot be timed stays unknown, with its reason.

    Args:
        spec: a study of the built-in trainer.
        known: what earlier studies tell, by stage; none where there are none.
        timed: asked once for each model.
    """
    told = {outlay.stage: outlay for outlay in known if outlay.hours is not None}
    paces: dict[str, Pace | str] = {}
    found = []
    for rule in stages_of(spec):
        model = rule.model_of(spec)
        if rule.name not in told and model is not None and model not in paces:
            try:
                paces[model] = timed(spec, model)
            except (TrialError, ChildError) as error:
                paces[model] = shorten(f"it cannot be timed here: {error}", LONGEST_REASON, placeholder=" ...")
        found.append(told.get(rule.name) or _outlay(spec, rule, paces.get(model or "", "it trains no model")))
    return found


def time_here(cache: Path, tell: Callable[[str], object]) -> Timed:
    """Time runs by a child of the trainer, with the settings that the study file fixes.

    Args:
        cache: folder of what can be made again.
        tell: given lines about what is being done.
    """

    def timed(spec: StudySpec, model: str) -> Pace:
        return pace(configured_as(spec).model_copy(update={"model_name": model}), cache, tell)

    return timed


def _outlay(spec: StudySpec, rule: StageRule, found: Pace | str) -> Outlay:
    if isinstance(found, str):
        return Outlay(rule.name, None, found)
    trials, share = rule.trials(spec), rule.share(spec)
    hours = (trials * share * found.seconds + found.loading_seconds) / 3600
    steps = max(1, round(share * found.steps))
    each = f"{trials} trials of {steps} steps, {found.step_seconds:.2g} s each as timed here"
    return Outlay(rule.name, hours, f"at most: {each}, and evaluations; less as losers are stopped")
