"""Studies with their stages, trials and curves, as plain data."""

from __future__ import annotations

import dataclasses
from typing import Any

from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.documents.plain import plain
from hpo_service.service.studies.reader import StudyList
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView
from hpo_service.service.studies.study_lines import LinesOfStudies

UNREADABLE = "unreadable"
"""What stands for the state of a study that another version made."""


def studies_document(studies: StudyList) -> list[dict[str, Any]]:
    """Return the list of studies as plain data; of those that cannot be read, name and reason alone."""
    lost = [{"name": name, "state": UNREADABLE, "reason": why} for name, why in studies.unreadable.items()]
    return [
        {
            "name": snapshot.name,
            "state": str(snapshot.state),
            "reason": snapshot.reason,
            "stage": str(snapshot.current.stage),
            "trials_ended": snapshot.current.ended,
            "trials_budget": snapshot.current.budget,
            "model": snapshot.spec.model.model_dump(mode="json") if snapshot.spec.model else None,
            "created_at": snapshot.created_at,
        }
        for snapshot in studies.snapshots
    ] + lost


def study_lines_document(studies: LinesOfStudies) -> list[dict[str, Any]]:
    """Return the same list, made without reading trials."""
    lost = [{"name": name, "state": UNREADABLE, "reason": why} for name, why in studies.unreadable.items()]
    return [
        {
            "name": line.name,
            "state": str(line.state),
            "reason": line.reason,
            "stage": line.stage,
            "trials_ended": line.ended,
            "trials_budget": line.budget,
            "model": line.spec.model.model_dump(mode="json") if line.spec.model else None,
            "created_at": line.created_at,
        }
        for line in studies.lines
    ] + lost


def study_document(snapshot: StudySnapshot) -> dict[str, Any]:
    """Return a study with its stages, trials and curves as plain data."""
    document: dict[str, Any] = plain(
        {
            "name": snapshot.name,
            "state": snapshot.state,
            "reason": snapshot.reason,
            "created_at": snapshot.created_at,
            "now": snapshot.now,
            "spec": snapshot.spec.model_dump(mode="json", exclude_unset=True),
            "stages": [_stage(view) for view in snapshot.stages],
        }
    )
    return document


def _stage(view: StageView) -> dict[str, Any]:
    return {
        "stage": view.stage,
        "open": view.open,
        "budget": view.budget,
        "reason": view.reason,
        "plan": view.plan,
        "opened_at": view.opened_at,
        "closed_at": view.closed_at,
        "counts": counts(view),
        "trials": [_trial(trial) for trial in view.trials],
    }


def _trial(trial: TrialView) -> dict[str, Any]:
    fields = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
    points = [{"step": r.step, "fraction": r.fraction, "value": r.value} for r in trial.curve]
    return {**fields, "facts": trial.facts.flat(), "curve": points}


def counts(view: StageView) -> dict[str, int]:
    """Count the trials of a stage by state; states that none is in are left out."""
    return {state: count for state in TrialState if (count := view.count(state))}
