"""What a study found, as plain data."""

from __future__ import annotations

import dataclasses
from typing import Any

from hpo_service.domain.decide.statistics import Comparison
from hpo_service.presentation.cost import study_cost
from hpo_service.presentation.documents.plain import plain
from hpo_service.presentation.documents.study import counts
from hpo_service.service.studies.findings.configuration import Configuration
from hpo_service.service.studies.findings.evidence import Evidence
from hpo_service.service.studies.snapshot import StudySnapshot


def verdict_document(snapshot: StudySnapshot, evidence: Evidence) -> dict[str, Any]:
    """Return what was found as plain data; numbers that are not finite become null."""
    comparison = evidence.comparison
    spent = study_cost(snapshot)
    document: dict[str, Any] = plain(
        {
            "study": snapshot.name,
            "state": snapshot.state,
            "verdict": evidence.verdict,
            "sentence": evidence.sentence,
            "stage": evidence.stage,
            "measure": evidence.measure,
            "maximize": evidence.direction.maximize,
            "comparison": _comparison(comparison) if comparison else None,
            "configurations": [_configuration(side) for side in evidence.configurations],
            "recommended": evidence.recommended.label if evidence.recommended else None,
            "choice": evidence.choice,
            "exported": dataclasses.asdict(evidence.exported) if evidence.exported else None,
            "export": evidence.export,
            "remarks": evidence.remarks,
            "trials": {view.stage: counts(view) for view in snapshot.stages},
            "device_seconds": spent.seconds,
            "device_seconds_preparing": spent.preparing,
            "device_seconds_saved_estimate": spent.saved,
        }
    )
    return document


def _comparison(comparison: Comparison) -> dict[str, Any]:
    smallest, seeds = comparison.smallest, comparison.seeds_to_see
    return {**dataclasses.asdict(comparison), "smallest_seen": smallest, "seeds_to_see": seeds}


def _configuration(side: Configuration) -> dict[str, Any]:
    return {**dataclasses.asdict(side), "validation": side.validation, "test": side.test}
