"""Where commands print: people's output through rich, machines' output as one JSON document."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output, or on standard error; long paths are not wrapped."""
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def print_json(document: Any) -> None:
    """Print one JSON document; infinities and NaN are refused, since JSON has none."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False, default=str) + "\n")
