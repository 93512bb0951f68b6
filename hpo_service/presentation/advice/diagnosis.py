"""Diagnoses as lines for people and as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hpo_service.domain.advise.diagnosis import Diagnosis
from hpo_service.domain.advise.faults import FAULTS
from hpo_service.domain.advise.run_log import FEWEST_POINTS, RunLog
from hpo_service.service.advice.study import StudyDiagnosis

MOST_NAMED = 5
"""Trials of one fault that are named in a line."""


def log_document(file: str, log: RunLog, found: Sequence[Diagnosis]) -> dict[str, Any]:
    """Return what was found in a log as plain data."""
    points = {"training_losses": len(log.train), "evaluations": len(log.evaluations), "gradient_norms": len(log.norms)}
    return {"log": file, **points, "faults": [_fault(each) for each in found]}


def study_document(found: StudyDiagnosis) -> dict[str, Any]:
    """Return what was found in a study as plain data."""
    return {
        "study": found.name,
        "trials": {key: [_fault(each) for each in faults] for key, faults in found.trials.items()},
        "trials_with_too_few_evaluations": found.unjudged,
        "edges": found.edges,
    }


def log_lines(log: RunLog, found: Sequence[Diagnosis]) -> Iterator[str]:
    """Say what was found in a log: the fault, its evidence, its remedies."""
    seen = f"{len(log.train)} training losses, {len(log.evaluations)} evaluations"
    if not found:
        yield f"no fault found in {seen}"
    for each in found:
        yield f"{each.name} ({each.level}): {each.fault.summary}"
        yield f"  seen:   {each.evidence}"
        yield from _remedies(each.name)


def study_lines(found: StudyDiagnosis) -> Iterator[str]:
    """Say what was found in a study: each fault once, with the trials that show it and what the first of them shows."""
    cases: dict[str, list[tuple[str, Diagnosis]]] = {}
    for key, faults in found.trials.items():
        for each in faults:
            cases.setdefault(each.name, []).append((key, each))
    judged = f"{len(found.trials)} complete trial" + ("" if len(found.trials) == 1 else "s")
    if found.unjudged:
        yield f"complete trials with fewer than {FEWEST_POINTS} evaluations, which are not judged: {found.unjudged}"
    if not cases and not found.edges:
        yield f"no fault found in {judged}"
    for name, trials in cases.items():
        first, shown = trials[0]
        keys = ", ".join(key for key, _ in trials[:MOST_NAMED]) + (", ..." if len(trials) > MOST_NAMED else "")
        yield f"{name} in {len(trials)} of {judged} ({keys}): {shown.fault.summary}"
        yield f"  seen:   {first}: {shown.evidence}"
        yield from _remedies(name)
    for parameter, text in found.edges.items():
        yield f"best at the edge: the best trial's {parameter} {text}"


def _remedies(name: str) -> Iterator[str]:
    for place, remedy in enumerate(FAULTS[name].remedies):
        yield f"  {'remedy:' if place == 0 else '       '} {remedy}"


def _fault(found: Diagnosis) -> dict[str, Any]:
    fault = found.fault
    return {
        "fault": found.name,
        "level": found.level,
        "summary": fault.summary,
        "evidence": found.evidence,
        "rule": fault.looks,
        "remedies": list(fault.remedies),
        "source": fault.source,
    }
