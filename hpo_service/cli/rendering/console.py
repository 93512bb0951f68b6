"""Where commands print: people's output through rich, machines' output as one JSON document."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

BROKEN_PIPE = 128 + signal.SIGPIPE
"""Exit status of a command whose reader has left, as shells tell the end by SIGPIPE."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """End the command quietly: whoever read what it prints has gone (`| head`)."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        raise SystemExit(BROKEN_PIPE)


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output, or on standard error; long paths are not wrapped."""
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        # a terminal that has no code for a character must not end a study
        stream.reconfigure(errors="replace")
    return _Console(stderr=stderr, soft_wrap=True, highlight=False)


def print_table(table: Table, nothing: str) -> None:
    """Print a table, or where it has no rows a sentence that says so."""
    console().print(table if table.row_count else nothing, markup=False)


def print_json(document: Any) -> None:
    """Print one JSON document; infinities and NaN are refused, since JSON has none."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False, default=str) + "\n")
