"""Runs of a few steps on real weights and rows, which answer a question: `python -m hpo_service.training.short_runs`.

It reads `{"kind": ..., "config": ..., "cache": ..., ...}` on standard input: the configuration of a run, and what its
kind needs, `ramp` of a range test, `rates` and `steps` of a sweep, `steps` to be timed. It writes
`{"losses": [...], "stopped": ...}`, or `{"sweep": [{"rate", "train_loss", "validation_loss"}, ...]}`, or what
`ShortRuns.pace` says, or `{"error": ...}` on standard output; what it is doing, and what libraries print, goes to
standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_service.errors import HpoServiceError
from hpo_service.training.device.libraries import keep_quiet

if TYPE_CHECKING:
    from hpo_service.training.engines.short_runs import ShortRuns

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def main() -> int:
    """Answer the request on standard input; return the exit status, 1 where there is no answer."""
    # only the answer goes there: no library's print may spoil it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    keep_quiet()
    request = json.load(sys.stdin)
    if request["kind"] == "pace":
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
    """Make the runs of a request.

    Raises:
        ModelError, DataError: the model or the rows cannot be used.
        UnfitError: the settings do not go together, or need more memory than there is.
    """
    from hpo_service.domain.trial.config import TrialConfig
    from hpo_service.training.device.faults import set_threads
    from hpo_service.training.engines.short_runs import ShortRuns

    set_threads()
    runs = ShortRuns(TrialConfig.model_validate(request["config"]), Path(request["cache"]), _tell)
    return KINDS[request["kind"]](runs, request)


def _range(runs: ShortRuns, request: dict[str, Any]) -> dict[str, Any]:
    from hpo_service.domain.advise.range_test import Ramp

    test, stopped = runs.ramp(Ramp(**request["ramp"]))
    return {"losses": test.losses, "stopped": stopped}


def _sweep(runs: ShortRuns, request: dict[str, Any]) -> dict[str, Any]:
    return {"sweep": [runs.constant(rate, request["steps"]) for rate in request["rates"]]}


def _pace(runs: ShortRuns, request: dict[str, Any]) -> dict[str, Any]:
    from hpo_service.training.device.faults import one_thread_on_a_cpu

    if not os.environ.get("OMP_NUM_THREADS"):
        one_thread_on_a_cpu()
    return dict(runs.pace(request["steps"]))


KINDS: Mapping[str, Callable[[ShortRuns, dict[str, Any]], dict[str, Any]]] = {
    "range": _range,
    "sweep": _sweep,
    "pace": _pace,
}


def _tell(message: str, fraction: float) -> None:
    sys.stderr.write(f"{message} ({fraction:.0%})\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
