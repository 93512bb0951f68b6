"""Workers: listed, and asked to leave."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from hpo_service.presentation.documents.workers import workers_document
from hpo_service.web.api.bodies import Why, WorkerId
from hpo_service.web.authentication import Asking
from hpo_service.web.state import Asked


def list_workers(service: Asked) -> Response:
    """List the workers that ever registered."""
    return JSONResponse(workers_document(service.workers.list_all()))


def drain_worker(service: Asked, caller: Asking, id: WorkerId, why: Why | None = None) -> Response:
    """Have a worker save its trials, give them back and exit; it obeys at its next renewal."""
    reason = (why and why.reason) or f"asked for by {caller.name}"
    service.workers.drain(id, reason, by=caller.name)
    return JSONResponse({"id": id, "reason": reason})
