"""Pictures as files of their own: PNG, SVG or HTML, as the file's ending says."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from hpo_service.errors import UsageError
from hpo_service.presentation.formatting import number
from hpo_service.presentation.report.drawing import drawing

ENDINGS = (".png", ".svg", ".html")
INK, MUTED, GRID, PAPER = "#1c2430", "#6b7683", "#e2e6ea", "#ffffff"
LINES = ("#0b6bcb", "#b65b00", "#157347", "#b3261e", "#6f42c1", "#0c7c8c")
"""Colours of lines, told apart in light and in dark prints; beyond them, dashes."""
_COLOURS: dict[Any, Any] = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.dpi": 150,
}
WIDTH, HEIGHT = 7.2, 4.0
"""Inches."""


def check_ending(path: Path) -> Path:
    """Make sure that a picture can be written to a file of this name, before the work that it is to show.

    Raises:
        UsageError: its ending names no format, or its folder is not there.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"{path}: a picture's name ends with {', '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}: make it first")
    return path


@contextmanager
def picture(path: Path, title: str) -> Iterator[Axes]:
    """Give axes to draw on; they are written to the file when drawing is done, whole or not at all.

    Raises:
        UsageError: as `check_ending`.
    """
    ending = check_ending(path).suffix.lower()
    with drawing(WIDTH, HEIGHT) as (figure, _), mpl.rc_context(_COLOURS):
        figure.clear()
        figure.set_facecolor(PAPER)
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontsize=10)
        yield axes
        buffer = io.BytesIO()
        if ending == ".png":
            figure.savefig(buffer, format="png")
        else:
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        drawn = buffer.getvalue()
    if ending == ".html":
        drawn = _page(drawn.decode(), title)
    path.write_bytes(drawn)


def log_rates(axes: Axes) -> None:
    """Make the x axis logarithmic, with a plain number at each power of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(float(value))))


def _page(svg: str, title: str) -> bytes:
    heading = html.escape(title)
    drawn = svg[svg.index("<svg") :]
    return f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{heading}</title>\n{drawn}</html>\n'.encode()
