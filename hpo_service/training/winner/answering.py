"""One request on standard input, one answer on standard output; what libraries print goes to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from hpo_service.errors import HpoServiceError
from hpo_service.training.device.libraries import keep_quiet


def answer_with(act: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Answer a request with what `act` makes of it, or with `{"error": ...}`; return the exit status."""
    # only the answer goes there: no library's print may spoil it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    keep_quiet()
    answer: dict[str, Any]
    try:
        answer = act(json.load(sys.stdin))
    except (HpoServiceError, OSError) as error:
        answer = {"error": " ".join(str(error).split())}
    with answers:
        json.dump(answer, answers)
    return int("error" in answer)


def tell(message: str, fraction: float | None = None) -> None:
    """Say what is being done, a line on standard error."""
    sys.stderr.write(message + ("" if fraction is None else f" ({fraction:.0%})") + "\n")
    sys.stderr.flush()
