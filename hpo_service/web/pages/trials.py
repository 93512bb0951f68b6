"""One trial's page."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.responses import Response

from hpo_service.domain.decide.measure import measure_of
from hpo_service.presentation.trial_text import about_trial, attempts_table, curve_table, fact_lines
from hpo_service.service.studies.trial_record import TrialRecord
from hpo_service.web.api.bodies import StageName, StudyName, TrialNumber
from hpo_service.web.pages.acts import trial_acts
from hpo_service.web.pages.page import live_page
from hpo_service.web.pages.studies import dashboard_id
from hpo_service.web.state import Asked, state_of

MOST_EVENTS = 50
MOST_ROWS = 200
"""Evaluations that the table shows: the latest."""
_ELSEWHERE = ("reason", "parameters")
"""Lines about a trial that the page shows in a place of their own."""


def show_trial_page(
    request: Request, service: Asked, name: StudyName, stage: StageName, number: TrialNumber
) -> Response:
    """Show one trial: parameters, curve, attempts, facts, and why it is as it is."""
    record = service.reader.record(name, stage, number)
    curve = curve_table(record)
    return live_page(
        request,
        "trial.html",
        record=record,
        trial=record.trial,
        about=[line for line in about_trial(record) if line[0] not in _ELSEWHERE],
        picture=_picture(request, record),
        curve=curve,
        curve_rows=curve.rows[-MOST_ROWS:],
        attempts=attempts_table(record),
        facts=fact_lines(record),
        acts=trial_acts(record.trial.state),
        events=service.events.list(name, (stage, number), last=MOST_EVENTS)[::-1],
        optuna=dashboard_id(service, name, stage),
    )


def _picture(request: Request, record: TrialRecord) -> Any:
    def draw() -> str | None:
        from hpo_service.presentation.report.trial_figure import curve

        return curve(record, measure_of(record.spec).reported)

    key = (record.trial.id, record.trial.number, len(record.trial.curve))
    return state_of(request).findings.drawn(f"{record.study} {record.key}", key, draw)
