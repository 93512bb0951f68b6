"""The trials of a search that no other beats in all goals of its study."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.domain.decide.goals.costs import goal_values, signed
from hpo_service.domain.decide.goals.front import front
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import TrialState
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView

STAYS_ON_LOSS = (
    "the study's verdict, and what verify and confirm run, stay on the loss: another point of it is yours to take"
)


@dataclass(frozen=True)
class Point:
    """A complete trial with what it reached in each goal, in their order; `best` says that it lies on the front."""

    trial: TrialView
    values: list[float]
    best: bool


@dataclass(frozen=True)
class Front:
    """What was found of several goals.

    Attributes:
        stage: whose trials these are.
        goals: by the names that the study file gives them, the loss first.
        points: complete trials that kept all limits, the best loss first.
        reason: how many are on the front, of how many, and what was left out.
    """

    stage: str
    goals: list[str]
    points: list[Point]
    reason: str

    @property
    def best(self) -> list[Point]:
        """Those on the front."""
        return [point for point in self.points if point.best]


def front_of(snapshot: StudySnapshot) -> Front | None:
    """Return the front of the latest search that has one; None where the study has one goal, or nothing ended yet.

    A view that lists few trials has all of the front, and of the others those that are listed.
    """
    spec = snapshot.spec
    views = [view for view in snapshot.stages if len(view.rule.goals_of(spec)) > 1]
    return next((found for view in reversed(views) if (found := _of(view, spec))), None)


def _of(view: StageView, spec: StudySpec) -> Front | None:
    goals = view.rule.goals_of(spec)
    complete = [trial for trial in view.trials if trial.state is TrialState.COMPLETE]
    within = [trial for trial in complete if not trial.violated]
    valued = [(t, values) for t in within if (values := goal_values(goals, t.value, t.facts)) is not None]
    if not valued:
        return None
    on_it = set(front([signed(values, spec.search.direction) for _, values in valued]))
    points = [Point(trial, values, place in on_it) for place, (trial, values) in enumerate(valued)]
    points.sort(key=lambda point: spec.search.direction.badness(point.values[0]))
    reason = f"{len(on_it)} of {len(valued)} trials are beaten by no other in all of {', '.join(goals)}"
    broken, unknown = len(complete) - len(within), len(within) - len(valued)
    left_out = [f"{broken} broke a limit"] if broken else []
    left_out += [f"of {unknown} a goal is not known"] if unknown else []
    return Front(view.stage, goals, points, "; ".join([reason, *left_out]))
