"""Where commands print: people's output through rich, machines' output as one JSON document."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output, or on standard error; long paths are not wrapped."""
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        # a terminal that has no code for a character must not end a study
        stream.reconfigure(errors="replace")
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def print_json(document: Any) -> None:
    """Print one JSON document; infinities and NaN are refused, since JSON has none."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False, default=str) + "\n")
