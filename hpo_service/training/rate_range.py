"""A range test, a sweep or a timing on real weights and rows: `python -m hpo_service.training.rate_range`.

It reads `{"config": ..., "cache": ..., "ramp": {...}, "sweep": [...], "steps": ...}` on standard input: the
configuration of a run, and the ramp of a range test, or the rates of a sweep, or neither to have a few steps timed.
It writes `{"losses": [...], "stopped": ...}`, or `{"sweep": [{"rate", "train_loss", "validation_loss"}, ...]}`, or what
`Probe.pace` says, or `{"error": ...}` on standard output; what it is doing, and what libraries print, goes to standard
error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from hpo_service.errors import HpoServiceError
from hpo_service.training.device.libraries import keep_quiet

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def main() -> int:
    """Answer the request on standard input; return the exit status, 1 where the test cannot be made."""
    # only the answer goes there: no library's print may spoil it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    keep_quiet()
    request = json.load(sys.stdin)
    if _is_timing(request):
        # nobody has agreed yet to fetch a model for it; read when the libraries are imported
        os.environ.update(OFFLINE)
    answer: dict[str, Any]
    try:
        answer = answer_to(request)
    except HpoServiceError as error:
        answer = {"error": " ".join(str(error).split())}
    with answers:
        json.dump(answer, answers)
    return int("error" in answer)


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """Make the test, the sweep or the timing of a request.

    Raises:
        ModelError, DataError: the model or the rows cannot be used.
        UnfitError: the settings do not go together, or need more memory than there is.
    """
    from hpo_service.domain.advise.range_test import Ramp
    from hpo_service.domain.trial.config import TrialConfig
    from hpo_service.training.device.faults import one_thread_on_a_cpu, set_threads
    from hpo_service.training.engines.probing import Probe

    set_threads()
    probe = Probe(TrialConfig.model_validate(request["config"]), Path(request["cache"]), _tell)
    if request["sweep"]:
        return {"sweep": [probe.constant(rate, request["steps"]) for rate in request["sweep"]]}
    if _is_timing(request):
        if not os.environ.get("OMP_NUM_THREADS"):
            one_thread_on_a_cpu()
        return dict(probe.pace(request["steps"]))
    test, stopped = probe.ramp(Ramp(**request["ramp"]))
    return {"losses": test.losses, "stopped": stopped}


def _is_timing(request: dict[str, Any]) -> bool:
    return "ramp" not in request and not request["sweep"]


def _tell(message: str, fraction: float) -> None:
    sys.stderr.write(f"{message} ({fraction:.0%})\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
