"""Children that answer one request about a winner, so that this process never loads what trains models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hpo_service.errors import ChildError, TrialError
from hpo_service.service.studies.data_report import ask

MODULES = "hpo_service.training.winner"


def answer_of(name: str, request: Mapping[str, Any], tell: Callable[[str], object] = lambda _: None) -> dict[str, Any]:
    """Let the child of this name answer a request.

    Args:
        name: of a module in `training/winner`.
        request: JSON values.
        tell: given each line that the child writes about what it is doing.

    Raises:
        TrialError: what was asked for cannot be done; the message says why.
        ChildError: the child ended without an answer.
    """
    return answer_from(f"{MODULES}.{name}", f"the process for {name}", request, tell)


def answer_from(
    module: str, called: str, request: Mapping[str, Any], tell: Callable[[str], object] = lambda _: None
) -> dict[str, Any]:
    """Let a module of the trainer answer a request in a process of its own.

    Args:
        module: that is run.
        called: what errors call it.
        request: JSON values.
        tell: given each line that the child writes about what it is doing.

    Raises:
        TrialError: what was asked for cannot be done; the message says why.
        ChildError: the child ended without an answer.
    """
    status, said, last = ask(module, json.dumps(request), tell)
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        remedy = "; pip install 'hpo-service[train]'" if last.startswith("ModuleNotFoundError") else ""
        raise ChildError(f"{called} ended with status {status}: {last}{remedy}") from None
    if "error" in answer:
        raise TrialError(answer["error"])
    return answer
