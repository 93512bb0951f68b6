"""A study at one moment, as the live view, `study show` and the report read it: plain values, no rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hpo_service.domain.decide.goals.costs import front_ids
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.protocol import STAGES, StageRule, current_of
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.domain.trial.tally import Tally
from hpo_service.storage.studies import StageRow, StudyRow, StudyStore
from hpo_service.storage.trial.reports import ReportRow
from hpo_service.storage.trial.trials import TrialRow, TrialStore

SPENDING = (TrialState.COMPLETE, TrialState.PRUNED)
"""What pruning saved is estimated from how long each trial in these states took."""


@dataclass(frozen=True)
class TrialView:
    """One trial; times are epoch seconds of the database's clock, durations are seconds."""

    id: int
    number: int | None
    state: TrialState
    role: str
    label: str
    parameters: dict[str, ParameterValue]
    value: float | None
    reason: str
    attempt: int
    errors: int
    losses: int
    progress: float
    seed: int
    worker: str | None
    device_seconds: float
    started_at: float | None
    ended_at: float | None
    origin_id: int | None
    adapter: str | None
    facts: RunFacts
    curve: list[ReportRow]
    share: float = 1.0

    @property
    def metrics(self) -> dict[str, float]:
        """Task metrics of the study file that were measured, by name."""
        return self.facts.metrics

    @property
    def reported(self) -> float | None:
        """The latest finite value that it reported on the way; None where there is none."""
        return next((report.value for report in reversed(self.curve) if report.value is not None), None)

    @property
    def violated(self) -> str:
        """Which limits of the study it broke, in words; empty where none."""
        return self.facts.constraints.violated or ""

    @property
    def preparing_seconds(self) -> float:
        """Device seconds that went into what other trials use too: the process, the loaded or made model, the rows.

        Of attempts before the last one it is not known.
        """
        timing, ranks = self.facts.timing, self.facts.training.ranks or 1
        if timing.device is None:
            return 0.0
        setup = (timing.setup or 0.0) * ranks
        # what its process did before it had the trial in hand
        before = self.device_seconds - timing.device if self.attempt == 1 else 0.0
        return min(self.device_seconds, setup + max(0.0, before))

    @property
    def own_seconds(self) -> float:
        """Device seconds that it took itself."""
        return self.device_seconds - self.preparing_seconds


def tally_of(trials: Iterable[TrialView]) -> Tally:
    """Count trials by state, with the device time that they took."""
    return Tally.of((trial.state, trial.device_seconds, trial.own_seconds) for trial in trials)


@dataclass(frozen=True)
class Rest:
    """Ended trials of a stage that are counted instead of listed, and the best of them.

    `own` has the device seconds that each took itself, by state, where what was spent is asked for.
    """

    tally: Tally = field(default_factory=Tally)
    best: TrialView | None = None
    own: Mapping[TrialState, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class StageView:
    """One stage with its trials in the order of their numbers.

    Who looks again and again gets a view that lists only the trials that are open or have ended since the last look;
    the others are its `rest`. What is counted here is counted of all.

    `plan` keeps why the stage was opened (`why`), the numbers it carries on (`chosen`) and, by label, the reason
    of every planned trial (`trials`); it is empty for the search stage. `reason` is why it was closed, once it is.
    `unserved` is why no worker that is there can run its trials, where that is so.
    """

    stage: str
    open: bool
    budget: int
    reason: str
    opened_at: float
    closed_at: float | None
    trials: list[TrialView]
    plan: dict[str, Any] = field(default_factory=dict)
    rest: Rest = field(default_factory=Rest)
    unserved: str = ""

    @property
    def rule(self) -> StageRule:
        """How the stage works."""
        return STAGES[self.stage]

    @cached_property
    def tally(self) -> Tally:
        """All its trials, counted."""
        return tally_of(self.trials) + self.rest.tally

    def count(self, *states: TrialState) -> int:
        """Count the trials in these states."""
        return self.tally.count(*states)

    def own_seconds(self, state: TrialState) -> list[float]:
        """Device seconds that each trial in this state took itself."""
        return [t.own_seconds for t in self.trials if t.state is state] + list(self.rest.own.get(state, ()))

    @property
    def run_hours(self) -> float | None:
        """Device hours that a run to the end took itself, on average; None where none has."""
        own = [seconds for seconds in self.own_seconds(TrialState.COMPLETE) if seconds > 0]
        return sum(own) / len(own) / 3600 if own else None

    @property
    def ended(self) -> int:
        """Trials that have ended, whatever became of them."""
        return self.count(*(state for state in TrialState if state.final))

    def best(self, direction: Direction = Direction.MINIMIZE) -> TrialView | None:
        """The complete trial with the best value so far that broke no limit; nor do ones on fewer rows count."""
        listed = [t for t in self.trials if t.state is TrialState.COMPLETE and t.value is not None and not t.violated]
        complete = [*([self.rest.best] if self.rest.best else []), *listed]
        most = max((t.share for t in complete), default=1.0)
        complete = [t for t in complete if t.share == most]
        return min(complete, key=lambda t: direction.badness(t.value or 0.0), default=None)


@dataclass(frozen=True)
class StudySnapshot:
    """A whole study."""

    name: str
    state: StudyState
    reason: str
    spec: StudySpec
    stages: list[StageView]
    now: float
    created_at: float

    @property
    def current(self) -> StageView:
        """The stage that is or was last open."""
        return current_of(self.stages)

    def stage(self, stage: str) -> StageView | None:
        """The view of this stage, or None where it has not been opened."""
        return next((view for view in self.stages if view.stage == stage), None)

    def where(self, is_so: Callable[[StageRule], bool]) -> StageView | None:
        """The first stage opened of whose rule this holds, or None where none has been."""
        return next((view for view in self.stages if is_so(view.rule)), None)


def take_snapshot(now: float, studies: StudyStore, trials: TrialStore, name: str) -> StudySnapshot:
    """Read a study; belongs inside a transaction, at whose time `now` it is.

    Raises:
        NotFoundError: there is no study of this name.
        UnreadableStudyError: another version made it, in a way that this one does not understand.
    """
    study = studies.get(name)
    curves: dict[int, list[ReportRow]] = {}
    for report in trials.reports.in_study(study.id):
        curves.setdefault(report.trial_id, []).append(report)
    listed: dict[int, list[TrialView]] = {}
    for row in trials.list(study.id):
        listed.setdefault(row.stage_id, []).append(trial_view(row, curves.get(row.id, [])))
    return study_view(now, study, [stage_view(stage, listed.get(stage.id, [])) for stage in studies.stages(study.id)])


def take_outline(now: float, studies: StudyStore, trials: TrialStore, name: str, listed: int) -> StudySnapshot:
    """Read a study; belongs inside a transaction, at whose time `now` it is.

    Stages whose trials are planned and not proposed are listed whole: they are few, and their runs are the evidence.

    Args:
        now: time of the database's clock.
        studies: rows of studies.
        trials: rows of trials.
        name: of the study.
        listed: how many of the latest trials a proposing stage lists; those that are open, the best one and
            those that were carried on are listed besides, and the Pareto front where there are several goals.

    Raises:
        NotFoundError: there is no study of this name.
        UnreadableStudyError: another version made it, in a way that this one does not understand.
    """
    study = studies.get(name)
    spec = study.specification()
    stages = studies.stages(study.id)
    carried_on = [stage.plan.get("chosen", []) for stage in stages[1:]] + [[]]
    views = [_outlined(trials, stage, spec, listed, numbers) for stage, numbers in zip(stages, carried_on, strict=True)]
    return study_view(now, study, views)


def _outlined(
    trials: TrialStore, stage: StageRow, spec: StudySpec, listed: int, carried_on: Collection[int]
) -> StageView:
    tallies, goals = trials.tallies, stage.rule.goals_of(spec)
    since = max(0, tallies.total(stage.id) - listed) if stage.rule.proposes else 0
    best = tallies.best(stage.id, spec.search.direction)
    named = [*tallies.numbered(stage.id, carried_on), *([best.id] if best is not None else [])]
    if len(goals) > 1:
        named += front_ids(goals, spec.search.direction, tallies.complete(stage.id))
    rows = tallies.open_or_new(stage.id, named, since)
    ids = [row.id for row in rows]
    curves = trials.reports.of_many(ids)
    rest = Rest(
        tallies.of_ended(stage.id, but_not=ids),
        own={state: tallies.own_seconds(stage.id, state, but_not=ids) for state in SPENDING},
    )
    return stage_view(stage, [trial_view(row, curves.get(row.id, [])) for row in rows], rest)


def study_view(now: float, study: StudyRow, stages: list[StageView]) -> StudySnapshot:
    """Return a study with views of its stages."""
    return StudySnapshot(
        name=study.name,
        state=study.state,
        reason=study.reason or "",
        spec=study.specification(),
        stages=stages,
        now=now,
        created_at=study.created_at,
    )


def stage_view(stage: StageRow, trials: list[TrialView], rest: Rest | None = None) -> StageView:
    """Return a stage with the trials that are listed, in the order they came to be, and the rest of them."""
    return StageView(
        stage=stage.rule.name,
        open=stage.open,
        budget=stage.trials,
        reason=stage.reason or "",
        opened_at=stage.opened_at,
        closed_at=stage.closed_at,
        trials=trials,
        plan=stage.plan,
        rest=rest or Rest(),
        unserved=stage.unserved if stage.open else "",
    )


def trial_view(row: TrialRow, curve: list[ReportRow]) -> TrialView:
    """Return a trial and its reports as plain values."""
    return TrialView(
        id=row.id,
        number=row.number,
        state=row.state,
        role=row.role,
        label=row.label or "",
        parameters=row.parameters,
        value=row.value,
        reason=row.reason or "",
        attempt=row.attempt,
        errors=row.errors,
        losses=row.losses,
        progress=row.progress or 0.0,
        seed=row.seed,
        worker=row.worker_id,
        device_seconds=row.device_seconds,
        started_at=row.started_at,
        ended_at=row.ended_at,
        origin_id=row.origin_id,
        share=row.share,
        adapter=row.adapter,
        facts=row.facts,
        curve=curve,
    )
