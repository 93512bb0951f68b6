"""Objectives for load and attack: what they report follows from the parameters alone, and so can be checked."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

from hpo_service.objective import TrialContext

STEPS = 6


def expected(parameters: Mapping[str, object], step: int) -> float:
    """The value at a step: a bowl in the parameters that falls with the steps."""
    bowl = sum((float(str(value)) - 0.3) ** 2 for value in parameters.values())
    return bowl + 1.0 / step


def resumable(trial: TrialContext) -> float:
    """Report every step, saving where it stands; a later attempt goes on behind the last saved step.

    On a broken node it fails after its first step, or as soon as it would go on.
    """
    pause = float(os.environ.get("CHAOS_STEP_SECONDS", "0.05"))
    saved = trial.checkpoint_folder / "step.json"
    first = json.loads(saved.read_text())["step"] + 1 if saved.exists() else 1
    value = expected(trial.parameters, max(1, first - 1))
    broken = os.environ.get("CHAOS_BROKEN")
    for step in range(first, STEPS + 1):
        if broken and step > 1:
            raise OSError("the device has fallen off the bus")
        time.sleep(pause)
        value = expected(trial.parameters, step)
        trial.report(step, value)
        partial = saved.with_suffix(".partial")
        partial.write_text(json.dumps({"step": step}))
        partial.replace(saved)
        if trial.should_stop():
            break
    return value


def instant(trial: TrialContext) -> float:
    """One report and the value, at once."""
    value = expected(trial.parameters, 1)
    trial.report(1, value, fraction=1.0)
    return value
