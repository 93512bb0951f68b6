"""What the holder of a trial is told to do."""

from __future__ import annotations

from typing import Literal

from hpo_service.domain.trial.reason import Reason
from hpo_service.domain.trial.record import Record


class Decision(Record):
    """What the holder of a trial must do next, and why."""

    action: Literal["continue", "prune", "cancel", "release", "abandon"]
    reason: Reason
