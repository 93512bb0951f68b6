"""Trials: listed a page at a time, shown, stopped and tried again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from starlette.responses import JSONResponse, Response

from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.documents.trial import trial_document, trials_document
from hpo_service.web.api.bodies import MOST_ID, PRINTABLE, StageName, StudyName, TrialNumber, Why
from hpo_service.web.api.once import Doing
from hpo_service.web.authentication import Asking
from hpo_service.web.state import Asked

MOST_TRIALS = 1000


def list_trials(
    service: Asked,
    name: StudyName,
    stage: Annotated[str | None, Query(max_length=16, pattern=PRINTABLE, description="Of this stage alone.")] = None,
    state: Annotated[list[TrialState] | None, Query(max_length=16, description="In one of these states.")] = None,
    worker: Annotated[str | None, Query(max_length=200, pattern=PRINTABLE, description="Held by this worker.")] = None,
    cursor: Annotated[int, Query(ge=0, le=MOST_ID, description="`next` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_TRIALS)] = 100,
    curves: Annotated[bool, Query(description="With the curve of each.")] = False,
) -> Response:
    """List the trials of a study in the order they came to be, without their curves unless they are asked for."""
    page = service.trial_list.page(
        name, stage=stage, states=state or (), worker=worker, after=cursor, limit=limit, curves=curves
    )
    return JSONResponse(trials_document(page, curves=curves))


def show_trial(service: Asked, name: StudyName, stage: StageName, number: TrialNumber) -> Response:
    """Show one trial: parameters, curve, attempts and facts."""
    record = service.reader.record(name, stage, number)
    return JSONResponse(trial_document(record, record.folders(service.settings.output)))


def stop_trial(
    service: Asked, caller: Asking, name: StudyName, stage: StageName, number: TrialNumber, why: Why | None = None
) -> Response:
    """End one trial; a running one obeys at its next report or heartbeat. It counts against the budget."""
    reason = (why and why.reason) or f"stopped by {caller.name}"
    row = service.studies.stop_trial(name, stage, number, reason, by=caller.name)
    return JSONResponse({"study": name, "stage": stage, "number": number, "state": str(row.state)})


def retry_trial(
    service: Asked, caller: Asking, once: Doing, name: StudyName, stage: StageName, number: TrialNumber
) -> Response:
    """Queue a failed or cancelled trial again, from the start, under a new number."""

    def act() -> dict[str, Any]:
        row = service.studies.retry_trial(name, stage, number, by=caller.name)
        return {"study": name, "stage": stage, "number": number, "state": str(row.state)}

    return once("", act, 200)
