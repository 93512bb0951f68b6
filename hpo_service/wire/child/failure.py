"""What an exception inside a trial means: whether another attempt could end otherwise, and how it is told."""

from __future__ import annotations

from hpo_service.errors import TrialError

REASON_CHARS = 500
# By name: they come from network libraries that this side does not import.
OUT_OF_REACH = frozenset({"ConnectionError", "TimeoutError", "Timeout", "TransportError", "LocalEntryNotFoundError"})


def is_retryable(error: BaseException) -> bool:
    """Whether another attempt could end otherwise: not where the inputs are wrong, but where they were out of reach."""
    if not isinstance(error, TrialError) or error.retryable:
        return True
    cause: BaseException | None = error
    while cause is not None:
        if any(base.__name__ in OUT_OF_REACH for base in type(cause).__mro__):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def reason_of(error: BaseException) -> str:
    """One line for a person: the text of an expected error as it is, any other with its type in front."""
    text = " ".join(str(error).split())[:REASON_CHARS]
    if isinstance(error, TrialError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
