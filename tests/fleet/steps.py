"""An objective that goes step by step and saves each: what it reports follows from its parameters alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

from hpo_service.objective import TrialContext

STEPS = 4


def expected(parameters: Mapping[str, object], step: int) -> float:
    """The value at a step."""
    return (float(str(parameters["x"])) - 0.3) ** 2 + 1.0 / step


def steps(trial: TrialContext) -> float:
    """Report every step; a later attempt goes on behind the last one that was saved."""
    saved = trial.checkpoint_folder / "step.json"
    first = json.loads(saved.read_text())["step"] + 1 if saved.exists() else 1
    value = expected(trial.parameters, max(1, first - 1))
    for step in range(first, STEPS + 1):
        time.sleep(float(os.environ.get("STEP_SECONDS", "0.1")))
        value = expected(trial.parameters, step)
        trial.report(step, value)
        partial = saved.with_suffix(".partial")
        partial.write_text(json.dumps({"step": step}))
        partial.replace(saved)
        if trial.should_stop():
            break
    return value
