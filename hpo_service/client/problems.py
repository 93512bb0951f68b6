"""Problem documents of a server, as the errors that they were made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from hpo_service.errors import (
    AccessError,
    HpoServiceError,
    ServerUnavailableError,
    StudyFileError,
    UnusableInputsError,
    UsageError,
)

BY_STATUS: dict[int, type[HpoServiceError]] = {
    401: AccessError,
    403: AccessError,
    413: UsageError,
    422: UsageError,
    429: AccessError,
    502: ServerUnavailableError,
    503: ServerUnavailableError,
    504: ServerUnavailableError,
}
"""What an answer is whose problem has no error of its own."""


def error_of(status: int, body: bytes) -> HpoServiceError:
    """Return the error of an answer.

    Args:
        status: of it.
        body: a problem document; whatever a proxy says instead is told as it is.
    """
    try:
        found = json.loads(body)
        document: dict[str, Any] = found if isinstance(found, dict) else {}
    except ValueError:
        document = {}
    kind = str(document.get("type", "")).rpartition(":")[2]
    detail = str(document.get("detail") or f"the server answered {status}: see its log, or what stands before it")
    if kind == _kind(StudyFileError):
        return StudyFileError(detail, line=int(document.get("line", 0)), key=str(document.get("key", "")))
    return _KINDS.get(kind, BY_STATUS.get(status, HpoServiceError))(detail)


def _all(kind: type[HpoServiceError]) -> Iterator[type[HpoServiceError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _all(each)


def _kind(error: type[HpoServiceError]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__.removesuffix("Error")).lower()


_KINDS = {
    _kind(each): each
    for each in _all(HpoServiceError)
    if each.__init__ is HpoServiceError.__init__ and each is not UnusableInputsError
}
"""Errors by the kind of their problem; those that need more than a sentence are read by themselves."""
