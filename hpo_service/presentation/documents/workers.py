"""The list of workers, as plain data."""

from __future__ import annotations

import dataclasses
from typing import Any

from hpo_service.presentation.documents.plain import plain
from hpo_service.service.workers import WorkerList


def workers_document(found: WorkerList) -> list[dict[str, Any]]:
    """Return the workers, in the order they started; times in seconds since 1970."""
    return [plain(dataclasses.asdict(worker)) for worker in found.workers]
