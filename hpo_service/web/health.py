"""Whether the process lives, and whether it can do its work."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from hpo_service.web.state import Asked


async def alive() -> Response:
    """Say that the process answers; it asks nobody."""
    return JSONResponse({"status": "alive"})


def ready(service: Asked) -> Response:
    """Say that the database is there and has this version's schema; 503 with the reason where it is not."""
    service.require_current()
    return JSONResponse({"status": "ready"})
