"""The list of launches, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from hpo_service.launch.launch_view import LaunchView
from hpo_service.presentation.documents.plain import plain


def launches_document(found: Iterable[LaunchView]) -> list[dict[str, Any]]:
    """Return launches, in the order they were made; times in seconds since 1970."""
    return [
        plain(
            {
                **dataclasses.asdict(view.row),
                "problem": view.problem,
                "in_queue": [dataclasses.asdict(job) for job in view.jobs],
                "workers_seen": [dataclasses.asdict(worker) for worker in view.launched.workers],
            }
        )
        for view in found
    ]
