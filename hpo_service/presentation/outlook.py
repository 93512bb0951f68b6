"""How much of a study is still to come, and about how long it takes."""

from __future__ import annotations

from hpo_service.domain.decide.planning.shares import stage_hours
from hpo_service.domain.study.protocol import stages_of
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.endings import FINAL
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.presentation.formatting import duration
from hpo_service.service.studies.snapshot import StageView, StudySnapshot


def planned_stages(spec: StudySpec) -> dict[str, int]:
    """Return the stages a study has, in order, with the number of trials each is planned to have (at most)."""
    return {rule.name: rule.trials(spec) for rule in stages_of(spec)}


def seconds_left(snapshot: StudySnapshot) -> float | None:
    """Estimate the seconds until the current stage ends, with as many workers as are busy now.

    A trial to come takes the mean device time of those that ended, without what was loaded or made for all, a running
    one the rest of the mean of the complete ones. None until a trial has ended, and while no worker is busy.
    """
    view = snapshot.current
    mean = view.tally.mean_seconds(*FINAL)
    running = [t for t in view.trials if t.state is TrialState.RUNNING]
    if mean is None or not running:
        return None
    whole = view.tally.mean_seconds(TrialState.COMPLETE) or mean
    to_come = max(0, view.budget - view.tally.total) + view.count(TrialState.WAITING)
    seconds = to_come * mean + sum((1.0 - trial.progress) * whole for trial in running)
    return min(seconds, _hours_left(snapshot, view)) / len(running)


def _hours_left(snapshot: StudySnapshot, view: StageView) -> float:
    """Device seconds that the budget leaves to the stage."""
    limit = stage_hours(snapshot.spec, view.rule)
    if limit is None or not view.rule.proposes:
        return float("inf")
    return max(0.0, 3600 * limit - view.tally.device_seconds)


def standing(snapshot: StudySnapshot) -> str:
    """Say in one sentence where a study stands: its stage, what of it has ended, and how long it still takes."""
    view = snapshot.current
    if snapshot.state.final:
        return outlook(snapshot)
    done = f"{view.ended} of {view.budget} trials of {view.stage} have ended"
    return f"{done}; {outlook(snapshot)}" if snapshot.state is StudyState.ACTIVE else f"{snapshot.state}; {done}"


def outlook(snapshot: StudySnapshot) -> str:
    """Say how long the study still takes, as far as that is known."""
    view = snapshot.current
    if snapshot.state.final:
        return f"{snapshot.state} after {duration(snapshot.now - snapshot.created_at)}: {snapshot.reason}"
    if not view.count(TrialState.RUNNING):
        return view.unserved or "waiting for a worker"
    seconds = seconds_left(snapshot)
    stages = list(planned_stages(snapshot.spec))
    following = " and ".join(stages[stages.index(view.stage) + 1 :]) if view.stage in stages else ""
    then = f" in {view.stage}, then {following}" if following else ""
    return f"estimating the time left{then}" if seconds is None else f"about {duration(seconds)} left{then}"
