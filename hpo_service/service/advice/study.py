"""What may be wrong with the runs of a study, and with where its best one lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hpo_service.domain.advise.diagnosis import Diagnosis, diagnose
from hpo_service.domain.advise.edge import widened
from hpo_service.domain.advise.run_log import FEWEST_POINTS, Curve, RunLog
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import ConflictError, UsageError
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView
from hpo_service.storage.trial.reports import ReportRow


@dataclass(frozen=True)
class StudyDiagnosis:
    """What was found in a study.

    Attributes:
        name: of the study.
        trials: complete trials that were judged, as stage/number, with what was found in each.
        edges: parameters of the search whose best value lies at the edge, each with what to widen it to.
        unjudged: complete trials with too few evaluations.
    """

    name: str
    trials: dict[str, list[Diagnosis]] = field(default_factory=dict)
    edges: dict[str, str] = field(default_factory=dict)
    unjudged: int = 0


def diagnose_study(snapshot: StudySnapshot) -> StudyDiagnosis:
    """Look at the curves of the complete trials of a study, and at where the best of its search lies.

    Raises:
        UsageError: the study has an objective of its own, whose values need not be losses.
        ConflictError: no trial is complete yet.
    """
    if snapshot.spec.objective is not None:
        raise UsageError(f"study {snapshot.name} has an objective of its own: its curves need not be those of a loss")
    complete = {
        f"{view.stage}/{trial.number}": run_log(trial)
        for view in snapshot.stages
        for trial in view.trials
        if trial.state is TrialState.COMPLETE
    }
    if not complete:
        raise ConflictError(f"study {snapshot.name} has no complete trial yet: diagnose it once one has ended")
    judged = {key: log for key, log in complete.items() if len(log.evaluations) >= FEWEST_POINTS}
    return StudyDiagnosis(
        snapshot.name,
        {key: diagnose(log) for key, log in judged.items()},
        dict(_edges(snapshot, snapshot.where(lambda rule: rule.proposes))),
        len(complete) - len(judged),
    )


def run_log(trial: TrialView) -> RunLog:
    """The curves of a trial, over its evaluations; its training loss is the mean since the evaluation before."""
    return RunLog(
        train=_curve(trial, "train_loss"),
        evaluations=Curve.of({row.step: float("nan") if row.value is None else row.value for row in trial.curve}),
        norms=_curve(trial, "grad_norm"),
        rates=_curve(trial, "learning_rate"),
    )


def _curve(trial: TrialView, name: str) -> Curve:
    found = ((row.step, _metric(row, name)) for row in trial.curve)
    return Curve.of({step: value for step, value in found if value is not None})


def _metric(row: ReportRow, name: str) -> float | None:
    return row.metrics.get(name)


def _edges(snapshot: StudySnapshot, view: StageView | None) -> Mapping[str, str]:
    best = view.best(snapshot.spec.search.direction) if view is not None else None
    return {} if best is None else dict(widened(snapshot.spec.space.resolve(), best.parameters))
