"""An objective that goes on for long enough to be watched, and obeys at once."""

from __future__ import annotations

import math
import time

from hpo_service.objective.context import TrialContext

STEPS = 40
STEP_SECONDS = 0.25


def slow_descent(trial: TrialContext) -> float:
    """Fall towards a value that depends on x, a little at a time."""
    value = 1.0
    for step in range(1, STEPS + 1):
        time.sleep(STEP_SECONDS)  # what training would take
        value = (float(trial.parameters["x"]) - 0.3) ** 2 + math.exp(-step / 8)
        trial.report(step, value, fraction=step / STEPS)
        if trial.should_stop():
            break
    return value
