"""Launches as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich import box
from rich.table import Column, Table
from rich.text import Text

from hpo_service.launch.launch_view import LaunchView
from hpo_service.presentation.formatting import duration


def launch_table(found: Iterable[LaunchView]) -> Table:
    """Return the list of launches, the oldest first."""
    fixed = [Column(name, no_wrap=True) for name in ("launch", "study", "launcher", "state")]
    counts = [Column(name, justify="right", no_wrap=True) for name in ("wanted", "running", "age")]
    table = Table(*fixed, *counts, "in the queue", "why", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for view in found:
        row = view.row
        states = Counter(job.state for job in view.jobs)
        queue = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        age = duration(max(0.0, view.launched.now - row.created_at))
        table.add_row(
            row.id,
            Text(row.study),
            row.launcher,
            row.state,
            str(row.workers),
            str(view.running),
            age,
            queue,
            Text(row.reason),
        )
    return table
