"""What one worker is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hpo_service.domain.decide.placement import NOT_TOLD, Resources

DRAIN_SECONDS = 90.0
"""From the first signal to the abort, if the child has not saved its checkpoint by then."""


@dataclass(frozen=True)
class WorkerOptions:
    """Identity, folders and limits of one worker; times in seconds."""

    id: str
    output: Path
    study: str | None = None
    until_finished: bool = False
    max_trials: int | None = None
    drain_seconds: float = DRAIN_SECONDS
    environment: dict[str, str] = field(default_factory=dict)
    has: Resources = NOT_TOLD
    """What trials may ask of this worker: its GPUs, their memory, its labels."""
    store: str = ""
    """URL of the store to which what trials save is copied; empty: none."""
    trainer: int | None = None
    """Processes of a trial of the built-in trainer, which must start before a trial is claimed; None: none will."""
    idle_seconds: float | None = None
    """How long it looks for a trial without finding one before it leaves; None: as long as there are studies."""
    seconds: float | None = None
    """How long it may stay, all in all; None where nothing limits it."""
    max_device_hours: float | None = None
    """Device hours of a study beyond which it starts no trial of it; None where nothing limits it."""
    job: str | None = None
    """What the scheduler calls it that runs this worker; None where there is none."""
    launch: str | None = None
    """The launch that this worker is of; None where it was started by itself."""
