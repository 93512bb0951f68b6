"""Values as JSON has a form for them."""

from __future__ import annotations

import math
from typing import Any


def plain(value: Any) -> Any:
    """Turn enumerations into their text and numbers that JSON has no form for into null, all the way down."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, str) else value
