"""Finding the record that was meant: the nearest names for a message."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, existing: Iterable[str]) -> str:
    """Return " (did you mean a or b?)" with the nearest existing names, or "" where none is near."""
    near = get_close_matches(name, list(existing), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
