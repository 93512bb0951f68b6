"""Everything that is kept of one trial, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpo_service.domain.decide.measure import measure_of
from hpo_service.domain.study.protocol import STAGES
from hpo_service.presentation.documents.plain import plain
from hpo_service.presentation.perplexity import perplexity
from hpo_service.service.studies.trial_list import TrialPage
from hpo_service.service.studies.trial_record import TrialRecord


def trial_document(record: TrialRecord, folders: Sequence[Path]) -> dict[str, Any]:
    """Return a trial with its curve and attempts, and the folders of those that lie on this machine."""
    trial, is_loss = record.trial, measure_of(record.spec).is_loss
    fields = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
    document: dict[str, Any] = plain(
        {
            "study": record.study,
            "stage": record.stage,
            "model": STAGES[record.stage].model_of(record.spec),
            **fields,
            "preparing_seconds": trial.preparing_seconds,
            "perplexity": perplexity(trial.value) if is_loss else None,
            "facts": trial.facts.flat(),
            "metrics": trial.metrics,
            "origin": record.origin or None,
            "curve": [dataclasses.asdict(report) for report in trial.curve],
            "attempts": [dataclasses.asdict(attempt) for attempt in record.attempts],
            "folders": [str(folder) for folder in folders],
        }
    )
    return document


def trials_document(page: TrialPage, *, curves: bool = False) -> dict[str, Any]:
    """Return a page of trials, with their curves where they are asked for.

    `next` is the cursor of the next page, null after the last.
    """
    trials = []
    for stage, trial in page.trials:
        fields = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
        curve = {"curve": [dataclasses.asdict(report) for report in fields.pop("curve")]}
        about = {"study": page.study, "stage": stage, **fields, "facts": trial.facts.flat()}
        trials.append({**about, **(curve if curves else {})})
    document: dict[str, Any] = plain({"trials": trials, "next": None if page.next is None else str(page.next)})
    return document
