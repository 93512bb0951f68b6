"""What happened to a study between two looks at it, one line each."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.formatting import configuration, measured
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView


@dataclass(frozen=True)
class Event:
    """One thing that happened; `minor` ones are left out where space is short."""

    text: str
    minor: bool = False


def events(before: StudySnapshot | None, now: StudySnapshot) -> list[Event]:
    """List what changed, in the order of stages and trials; at a first look, only where the study stands."""
    if before is None:
        return [Event(_standing(now))]
    found: list[Event] = []
    for view in now.stages:
        earlier = before.stage(view.stage)
        if earlier is None:
            found.append(Event(f"{view.stage} begins with {view.budget} trials: {view.plan.get('why') or view.reason}"))
        states = {trial.id: trial for trial in earlier.trials} if earlier else {}
        best = view.best(now.spec.search.direction)
        for trial in view.trials:
            found += _trial_events(view, trial, states.get(trial.id), is_best=best is not None and trial.id == best.id)
        if view.unserved and (earlier is None or not earlier.unserved):
            found.append(Event(view.unserved))
        if not view.open and (earlier is None or earlier.open):
            found.append(Event(f"{view.stage} has ended: {view.reason}"))
    if now.state is not before.state:
        found.append(Event(f"the study is {now.state}: {now.reason}"))
    return found


def _standing(now: StudySnapshot) -> str:
    if not any(view.tally.total for view in now.stages):
        return f"{now.current.stage} begins with {now.current.budget} trials"
    return f"going on in {now.current.stage}: {now.current.ended} of {now.current.budget} trials have ended"


def _trial_events(view: StageView, trial: TrialView, before: TrialView | None, *, is_best: bool) -> list[Event]:
    # one that was not listed before is new, or was revived
    old = before.state if before else None if trial.attempt else TrialState.WAITING
    name = trial_name(view, trial)
    if trial.state is TrialState.RUNNING and (before is None or trial.attempt > before.attempt):
        again = f", attempt {trial.attempt}" if trial.attempt > 1 else ""
        return [Event(f"{name} started{again} ({configuration(trial.parameters)})", minor=True)]
    if trial.state is old:
        return []
    if trial.state is TrialState.COMPLETE:
        best = ", the best so far" if is_best else ""
        return [Event(f"{name} complete: {measured(trial.value)}{best}")]
    if trial.state is TrialState.WAITING:
        return [Event(f"{name} went back to the queue: {trial.reason}")]
    return [Event(f"{name} {trial.state}: {trial.reason}")]


def trial_name(view: StageView, trial: TrialView) -> str:
    """Name a trial as people refer to it, e.g. `search #7` or `confirm #2 (winner 1)`; a planned one has no number."""
    label = f" ({trial.label})" if trial.label else ""
    return f"{view.stage} {'planned' if trial.number is None else f'#{trial.number}'}{label}"
