"""What a stage of a study to come is thought to take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outlay:
    """What a stage is thought to take: device hours, None where nothing is known, and what that follows from."""

    stage: str
    hours: float | None
    why: str
