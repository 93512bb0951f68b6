"""What may go into a column: no NaN, no infinity; arrays as plain bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_LOST = "the value was "


def finite(value: float | None) -> float | None:
    """Return the value, or None where it is NaN or infinite: databases and JSON disagree about those."""
    return None if value is None or not math.isfinite(value) else float(value)


def lost(value: float | None) -> str:
    """Say what `finite` took away, or return an empty text."""
    return "" if value is None or math.isfinite(value) else f"{_LOST}{value}"


def restored(value: float | None, note: str) -> float:
    """Return a value as it was before `finite` took it away, by the note that `lost` made of it."""
    if value is not None:
        return value
    return float(note.removeprefix(_LOST)) if note.startswith(_LOST) else math.nan


def with_lost(reason: str, value: float | None) -> str:
    """Add to a reason what `finite` took away from its value."""
    return f"{reason} ({lost(value)})" if lost(value) else reason


def plain(value: Any) -> Any:
    """Return a copy that JSON can hold: every NaN or infinity inside becomes null, tuples become lists."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value


def json_or_text(text: str) -> Any:
    """Return what a JSON column holds; a text that is no JSON as it is, for it must cost its own row alone."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def packed(values: Sequence[float] | Sequence[int], kind: str) -> bytes:
    """Return the numbers as bytes of the NumPy type `kind` (`<f4` or `<i4`)."""
    return np.asarray(values, dtype=np.dtype(kind)).tobytes()


def unpacked(data: bytes, kind: str) -> list[Any]:
    """Return the numbers that `packed` wrote, as Python numbers."""
    return list(np.frombuffer(data, dtype=np.dtype(kind)).tolist())
