"""The first page: all studies."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from hpo_service.presentation.outlook import outlook, planned_stages
from hpo_service.service.studies.overview import StudyLine
from hpo_service.web.pages.page import live_page
from hpo_service.web.state import Asked, state_of

MOST_STUDIES = 200
"""Studies on a page, the newest first."""


def home(request: Request, service: Asked, page: int = 1) -> Response:
    """Show all studies: stage, progress, best value, device time, time left and verdict."""
    found, findings = service.overview.lines(), state_of(request).findings
    newest = found.lines[::-1]
    pages = max(1, -(-len(newest) // MOST_STUDIES))
    page = min(max(page, 1), pages)
    shown = newest[(page - 1) * MOST_STUDIES : page * MOST_STUDIES]
    rows = [{**_row(line), "evidence": findings.known(line.snapshot)} for line in shown]
    running = sum(line.snapshot.state == "active" for line in found.lines)
    return live_page(
        request, "home.html", rows=rows, unreadable=found.unreadable, running=running, page=page, pages=pages
    )


def _row(line: StudyLine) -> dict[str, object]:
    snapshot = line.snapshot
    return {
        "study": snapshot,
        "best": line.best,
        "stages": list(planned_stages(snapshot.spec)),
        "device_seconds": sum(view.tally.device_seconds for view in snapshot.stages),
        "outlook": outlook(snapshot) if snapshot.state == "active" else "",
    }
