"""Learning-rate schedules as pictures and plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo_service.presentation.advice.picture import LINES, picture

DASHES = ("-", "--", ":")


def schedules_document(drawn: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the learning rate of each step, by schedule, as plain data."""
    return {"steps": len(next(iter(drawn.values()), ())), "rates": {name: list(each) for name, each in drawn.items()}}


def draw_schedules(drawn: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Draw the learning rate over the steps, a line for each schedule.

    Raises:
        UsageError: the file's ending names no format, or its folder is not there.
    """
    with picture(path, title) as axes:
        for place, (name, values) in enumerate(drawn.items()):
            dash = DASHES[place // len(LINES) % len(DASHES)]
            axes.plot(range(1, len(values) + 1), values, dash, color=LINES[place % len(LINES)], label=name)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("learning rate")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
