"""The workers: where they are, what they have, what they run, and when they were last heard from."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.responses import Response

from hpo_service.service.studies.overview import HeldTrial
from hpo_service.service.workers import WorkerState
from hpo_service.web.pages.page import live_page
from hpo_service.web.state import Asked

MOST_GONE = 50
"""Workers that left or fell silent which are shown: the latest."""
MOST_HERE = 300
_HERE = (WorkerState.ACTIVE, WorkerState.DRAINING)


def show_workers_page(request: Request, service: Asked) -> Response:
    """Show the workers, those that are here first."""
    found, held = service.workers.list_all(), service.overview.held()
    here = [worker for worker in found.workers if worker.state in _HERE]
    gone = sorted((w for w in found.workers if w.state not in _HERE), key=lambda w: w.seen_at, reverse=True)
    rows = [
        {
            "worker": worker,
            "here": worker.state in _HERE,
            "held": (mine := held.get(worker.id, [])),
            "memory": _memory(mine),
            "silent": max(0.0, found.now - worker.seen_at),
        }
        for worker in [*here[:MOST_HERE], *gone[:MOST_GONE]]
    ]
    not_shown = len(found.workers) - len(rows)
    return live_page(request, "workers.html", rows=rows, here_count=len(here), not_shown=not_shown)


def _memory(held: list[HeldTrial]) -> float | None:
    """The most gigabytes that one of a worker's trials said it holds, where one did."""
    said: list[Any] = [report.metrics.get("memory_gb") for each in held for report in each.trial.curve]
    return max((gigabytes for gigabytes in said if gigabytes is not None), default=None)
