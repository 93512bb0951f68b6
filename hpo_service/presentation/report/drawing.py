"""Figures as SVG that takes its colours from the page, so that one drawing is right in light and in dark."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hpo_service.presentation.formatting import number

# Colours that stand for a CSS variable of the page; each is written nowhere else.
INK, MUTED, GRID, WINNER, DEFAULT, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
RAMP = ("#070701", "#070702", "#070703", "#070704", "#070705")
"""From low to high, for ordered values."""

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    WINNER: "--winner",
    DEFAULT: "--default",
    PAPER: "--paper",
    **{colour: f"--ramp-{index}" for index, colour in enumerate(RAMP)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hpo-service",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    # a dollar in a name is a dollar
    "text.parse_math": False,
    "axes.formatter.useoffset": False,
}


_one_at_a_time = threading.RLock()
"""Matplotlib's settings are the whole process's."""
_STYLED = re.compile(r'(<[a-z][^<>]*?)\sstyle="([^"]*)"')


@contextmanager
def drawing(width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """Give a figure of this size in inches and its axes, in the page's style; draw and export it inside."""
    with _one_at_a_time, mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def svg(figure: Figure, key: str, title: str) -> str:
    """Export a figure as an `<svg>` element; `key` keeps its ids apart from those of the page's other figures.

    It holds no style of its own, only attributes: a page whose policy allows nothing inline shows it all the same.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, count=1, flags=re.DOTALL)
    text = _STYLED.sub(_as_attributes, text)
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{key}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    joined = 'stroke-linejoin="round" stroke-linecap="butt"'
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" {joined} ', 1)


def _as_attributes(element: re.Match[str]) -> str:
    """Write an element's style as the attributes that mean the same."""
    pairs = (declaration.partition(":") for declaration in element[2].split(";") if declaration.strip())
    attributes = " ".join(f'{name.strip()}="{value.strip()}"' for name, _, value in pairs)
    return f"{element[1]} {attributes}"


def log_scale(axes: Axes) -> None:
    """Make the x axis logarithmic, with plain numbers at 1, 2 and 5 times the powers of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(float(value))))
    axes.xaxis.set_minor_locator(NullLocator())


def ramp(values: Sequence[float]) -> dict[float, str]:
    """Give each distinct value a colour, from low to high."""
    distinct = sorted(set(values))
    last = max(1, len(distinct) - 1)
    return {value: RAMP[round(index * (len(RAMP) - 1) / last)] for index, value in enumerate(distinct)}
