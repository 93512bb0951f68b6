"""Studies with their stages, trials and curves, as plain data."""

from __future__ import annotations

import dataclasses
from typing import Any

from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.cost import StageCost, StudyCost, study_cost
from hpo_service.presentation.documents.front import front_document
from hpo_service.presentation.documents.plain import plain
from hpo_service.service.studies.findings.evidence import Evidence
from hpo_service.service.studies.overview import StudyLines
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView

UNREADABLE = "unreadable"
"""What stands for the state of a study that another version made."""


def study_lines_document(studies: StudyLines) -> list[dict[str, Any]]:
    """Return the list of studies as plain data; of those that cannot be read, name and reason alone."""
    lost = [{"name": name, "state": UNREADABLE, "reason": why} for name, why in studies.unreadable.items()]
    return [
        {
            "name": study.name,
            "state": str(study.state),
            "reason": study.reason,
            "stage": study.current.stage,
            "trials_ended": study.current.ended,
            "trials_budget": study.current.budget,
            "model": study.spec.model.model_dump(mode="json") if study.spec.model else None,
            "created_at": study.created_at,
        }
        for study in (line.snapshot for line in studies.lines)
    ] + lost


def study_document(snapshot: StudySnapshot) -> dict[str, Any]:
    """Return a study with its stages, trials and curves as plain data."""
    document: dict[str, Any] = plain(
        {
            **_head(snapshot),
            "stages": [{**_about(view), "trials": [_trial(t) for t in view.trials]} for view in snapshot.stages],
            "front": front_document(snapshot),
        }
    )
    return document


def outline_document(snapshot: StudySnapshot, evidence: Evidence) -> dict[str, Any]:
    """Return a study without its trials: stages with counts, cost and the best trial, and the verdict.

    What it is made of may list few trials: see `StudyReader.outline`.
    """
    spent = study_cost(snapshot)
    document: dict[str, Any] = plain(
        {
            **_head(snapshot),
            "stages": [
                {**_about(view), "best": _best(snapshot, view), "cost": _cost(cost)}
                for view, cost in zip(snapshot.stages, spent.stages, strict=True)
            ],
            "cost": _cost(spent),
            "front": front_document(snapshot),
            "verdict": {"verdict": evidence.verdict, "sentence": evidence.sentence, "remarks": evidence.remarks},
        }
    )
    return document


def _head(snapshot: StudySnapshot) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "state": snapshot.state,
        "reason": snapshot.reason,
        "created_at": snapshot.created_at,
        "now": snapshot.now,
        "spec": snapshot.spec.model_dump(mode="json", exclude_unset=True),
    }


def _best(snapshot: StudySnapshot, view: StageView) -> dict[str, Any] | None:
    best = view.best(snapshot.spec.search.direction)
    return None if best is None else _trial(best)


def _cost(cost: StageCost | StudyCost) -> dict[str, float]:
    return {
        "device_seconds": cost.seconds,
        "device_seconds_preparing": cost.preparing,
        "device_seconds_saved_estimate": cost.saved,
    }


def _about(view: StageView) -> dict[str, Any]:
    return {
        "stage": view.stage,
        "open": view.open,
        "budget": view.budget,
        "reason": view.reason,
        "unserved": view.unserved,
        "plan": view.plan,
        "opened_at": view.opened_at,
        "closed_at": view.closed_at,
        "counts": counts(view),
    }


def _trial(trial: TrialView) -> dict[str, Any]:
    fields = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
    points = [{"step": r.step, "fraction": r.fraction, "value": r.value} for r in trial.curve]
    return {**fields, "facts": trial.facts.flat(), "curve": points}


def counts(view: StageView) -> dict[str, int]:
    """Count the trials of a stage by state; states that none is in are left out."""
    return {state: count for state in TrialState if (count := view.count(state))}
