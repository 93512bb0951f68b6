"""A study whose ended trials are counted rather than listed: what it costs to read hardly grows with them."""

from __future__ import annotations

from collections.abc import Collection

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.states import TrialState
from hpo_service.service.studies.snapshot import Rest, StageView, StudySnapshot, stage_view, study_view, trial_view
from hpo_service.storage.studies import StageRow, StudyStore
from hpo_service.storage.trial.reports import ReportRow
from hpo_service.storage.trial.trials import TrialStore

SPENDING = (TrialState.COMPLETE, TrialState.PRUNED)
"""What pruning saved is estimated from how long each trial in these states took."""


def take_outline(now: float, studies: StudyStore, trials: TrialStore, name: str, listed: int) -> StudySnapshot:
    """Read a study; belongs inside a transaction, at whose time `now` it is.

    Stages whose trials are planned and not proposed are listed whole: they are few, and their runs are the evidence.

    Args:
        now: time of the database's clock.
        studies: rows of studies.
        trials: rows of trials.
        name: of the study.
        listed: how many of the latest trials a proposing stage lists; those that are open, the best one and
            those that were carried on are listed besides.

    Raises:
        NotFoundError: there is no study of this name.
        UnreadableStudyError: another version made it, in a way that this one does not understand.
    """
    study = studies.get(name)
    direction = study.specification().search.direction
    stages = studies.stages(study.id)
    carried_on = [stage.plan.get("chosen", []) for stage in stages[1:]] + [[]]
    views = [
        _view(trials, stage, direction, listed, numbers) for stage, numbers in zip(stages, carried_on, strict=True)
    ]
    return study_view(now, study, views)


def _view(
    trials: TrialStore, stage: StageRow, direction: Direction, listed: int, carried_on: Collection[int]
) -> StageView:
    tallies = trials.tallies
    since = max(0, tallies.total(stage.id) - listed) if stage.rule.proposes else 0
    best = tallies.best(stage.id, direction)
    named = [*tallies.numbered(stage.id, carried_on), *([best.id] if best is not None else [])]
    rows = tallies.open_or_new(stage.id, named, since)
    ids = [row.id for row in rows]
    curves: dict[int, list[ReportRow]] = {}
    for report in trials.reports.of_each(ids):
        curves.setdefault(report.trial_id, []).append(report)
    rest = Rest(
        tallies.of_ended(stage.id, but_not=ids),
        own={state: tallies.own_seconds(stage.id, state, but_not=ids) for state in SPENDING},
    )
    return stage_view(stage, [trial_view(row, curves.get(row.id, [])) for row in rows], rest)
