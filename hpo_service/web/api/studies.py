"""Studies: created, checked, listed, shown, steered and deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse, Response

from hpo_service.domain.studyfile.reader import StudyFile
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import StudyFileError
from hpo_service.presentation.documents.study import outline_document, study_lines_document
from hpo_service.service.studies.study_file import read_foreign_study
from hpo_service.web.api.bodies import FILE_NAME, StudyName, StudyText, Why
from hpo_service.web.api.once import Doing
from hpo_service.web.authentication import Asking
from hpo_service.web.state import Asked


def list_studies(service: Asked) -> Response:
    """List all studies with stage and progress."""
    return JSONResponse(study_lines_document(service.overview.lines()))


def show_study(service: Asked, name: StudyName) -> Response:
    """Show one study: stages with counts, cost and best trial, and the verdict. Its trials are pages of their own."""
    snapshot = service.reader.outline(name, 0)
    return JSONResponse(outline_document(snapshot, service.reader.evidence(snapshot)))


def validate_study(text: StudyText) -> Response:
    """Check a study file without creating anything."""
    study = _read(text)
    warnings = [{"line": w.line, "key": w.key, "message": w.message} for w in study.warnings]
    return JSONResponse({"warnings": warnings, "study": study.spec.model_dump(mode="json")})


def create_study(service: Asked, caller: Asking, text: StudyText, once: Doing) -> Response:
    """Create the study of a study file: workers may then pull its trials. The very same study again changes nothing."""
    spec = _read(text).spec

    def act() -> dict[str, Any]:
        row = service.studies.create(spec, by=caller.name)
        return {"name": row.name, "state": str(row.state), "reason": row.reason}

    return once(text, act)


def steer(name: str, state: StudyState, done: str, about: str) -> Callable[..., Response]:
    """Return a handler that brings a study into a state.

    Args:
        name: of the handler, as the OpenAPI document calls it.
        state: which the study is brought into.
        done: what its caller has done then, for a reason that nobody gave.
        about: what it does, for people.
    """

    def handler(service: Asked, caller: Asking, name: StudyName, why: Why | None = None) -> Response:
        reason = (why and why.reason) or f"{done} by {caller.name}"
        row = service.studies.steer(name, state, reason, by=caller.name)
        return JSONResponse({"name": row.name, "state": str(row.state), "reason": row.reason})

    handler.__name__, handler.__doc__ = name, about
    return handler


pause_study = steer(
    "pause_study",
    StudyState.PAUSED,
    "paused",
    "Give all running trials back with a checkpoint and hand out no more until `resume`.",
)
resume_study = steer(
    "resume_study",
    StudyState.ACTIVE,
    "resumed",
    "Go on with a paused, draining, failed or cancelled study; trials for which it failed are tried again.",
)
drain_study = steer(
    "drain_study", StudyState.DRAINING, "drained", "Let running trials end, but hand out no more until `resume`."
)
cancel_study = steer(
    "cancel_study",
    StudyState.CANCELLED,
    "cancelled",
    "End a study: running trials stop at their next report or heartbeat; what was measured is kept.",
)


def delete_study(service: Asked, caller: Asking, name: StudyName) -> Response:
    """Delete a study and everything measured in it from the database; files of its trials stay."""
    service.studies.delete(name, by=caller.name)
    return Response(status_code=204)


def _read(text: str) -> StudyFile:
    try:
        return read_foreign_study(text, FILE_NAME)
    except RecursionError:
        raise StudyFileError(f"{FILE_NAME}: is nested too deeply") from None
