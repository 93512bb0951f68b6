"""The figures of the search: learning curves, the value against each parameter. None where nothing is to be drawn."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from hpo_service.domain.decide.measure import measure_of, reported
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import CategoricalParameter, ParameterValue, SearchSpace
from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.formatting import number
from hpo_service.presentation.report.drawing import INK, MUTED, PAPER, WINNER, drawing, log_scale, ramp, svg
from hpo_service.presentation.report.figures import WIDTH
from hpo_service.service.studies.snapshot import StudySnapshot, TrialView

Limits = tuple[float, float]
"""Smallest and largest value shown."""

_PANELS_PER_ROW = 3
_MOST_COLOURS = 8
_FARTHEST = 3.0
"""Values farther from the median than this many times the distance from the best to the median are cut off."""


def curves(snapshot: StudySnapshot) -> str | None:
    """Learning curves of every search trial, of what trials report on the way; the best bold, those stopped faint."""
    view = snapshot.where(lambda rule: rule.proposes)
    drawn = [t for t in view.trials if any(r.value is not None for r in t.curve)] if view else []
    if view is None or not drawn:
        return None
    best, direction = view.best(snapshot.spec.search.direction), reported(snapshot.spec).direction
    with drawing(WIDTH, 3.4) as (figure, (axes,)):
        for trial in drawn:
            points = [(100 * r.fraction, r.value) for r in trial.curve if r.value is not None]
            style = _curve_style(trial, best)
            axes.plot([x for x, _ in points], [y for _, y in points], **style)
            if trial is best:
                axes.annotate(
                    f" #{trial.number}", points[-1], color=WINNER, fontweight="bold", va="center", annotation_clip=False
                )
        values = [r.value for t in drawn for r in t.curve if r.value is not None]
        show(axes, limits_of(values, direction))
        axes.set_xlabel("% of the run")
        axes.set_ylabel(measure_of(snapshot.spec).curve.replace(" ", "\n", 1))
        handles = [
            Line2D([], [], color=WINNER, linewidth=2.4, label="best"),
            Line2D([], [], color=INK, linewidth=1.1, alpha=0.7, label="ran to the end"),
            Line2D([], [], color=MUTED, linewidth=0.9, alpha=0.55, marker="o", markersize=3, label="stopped early"),
        ]
        axes.legend(handles=handles, loc="lower right" if direction.maximize else "upper right")
        return svg(figure, "curves", "Learning curves of all search trials")


def _curve_style(trial: TrialView, best: TrialView | None) -> dict[str, Any]:
    if trial is best:
        return {"color": WINNER, "linewidth": 2.4, "zorder": 4}
    if trial.state in (TrialState.COMPLETE, TrialState.RUNNING):
        return {"color": INK, "linewidth": 1.1, "alpha": 0.7, "zorder": 3}
    return {
        "color": MUTED,
        "linewidth": 0.9,
        "alpha": 0.55,
        "zorder": 2,
        "marker": "o",
        "markersize": 3,
        "markevery": [-1],
    }


def learning_rates(snapshot: StudySnapshot, measure: str) -> str | None:
    """Value against learning rate on a log axis, coloured by rank; stopped trials faint at their last value."""
    view = snapshot.where(lambda rule: rule.proposes)
    shown = [t for t in view.trials if "learning_rate" in t.parameters and t.value is not None] if view else []
    if not shown:
        return None
    colours = _rank_colours(shown)
    limits = limits_of([t.value for t in shown if t.value is not None], snapshot.spec.search.direction)
    with drawing(WIDTH, 3.2) as (figure, (axes,)):
        for trial in shown:
            colour = colours.get(_rank(trial), WINNER)
            _dot(axes, trial.parameters["learning_rate"], trial, colour, size=46, limits=limits)
        log_scale(axes)
        show(axes, limits)
        axes.set_xlabel("learning rate (log scale)")
        axes.set_ylabel(measure.replace(" ", "\n", 1))
        if colours:
            handles = [
                Line2D([], [], linestyle="", marker="o", color=colour, label=f"rank {rank:g}")
                for rank, colour in colours.items()
            ]
            axes.legend(handles=handles, loc="best")
        return svg(figure, "rates", "Validation value against learning rate, coloured by rank")


def parameters(snapshot: StudySnapshot, measure: str) -> str | None:
    """Value against each searched parameter, a small panel each."""
    view = snapshot.where(lambda rule: rule.proposes)
    shown = [t for t in view.trials if t.value is not None] if view else []
    space = snapshot.spec.space.resolve()
    names = [name for name in space.parameters if any(name in t.parameters for t in shown)]
    if not names:
        return None
    limits = limits_of([t.value for t in shown if t.value is not None], snapshot.spec.search.direction)
    columns = min(_PANELS_PER_ROW, len(names))
    rows = -(-len(names) // columns)
    with drawing(WIDTH, 0.3 + 1.85 * rows, rows, columns) as (figure, panels):
        for name, axes in zip(names, panels, strict=False):
            _panel(axes, name, space, shown, limits)
            show(axes, limits)
            axes.set_title(name, fontsize=9)
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        figure.supylabel(measure, fontsize=9)
        return svg(figure, "panels", "Validation value against each searched parameter")


def _panel(axes: Axes, name: str, space: SearchSpace, shown: Sequence[TrialView], limits: Limits) -> None:
    parameter = space.parameters[name]
    places: Mapping[ParameterValue, float] | None = None
    if isinstance(parameter, CategoricalParameter):
        places = {choice: float(index) for index, choice in enumerate(parameter.choices)}
        axes.set_xticks(range(len(parameter.choices)), [number(choice) for choice in parameter.choices])
        axes.set_xlim(-0.5, len(parameter.choices) - 0.5)
    elif parameter.log:
        log_scale(axes)
    for trial in shown:
        if name in trial.parameters:
            value = trial.parameters[name]
            place = value if places is None else places.get(value, -1.0)
            _dot(axes, place, trial, WINNER, size=22, limits=limits)


def _dot(axes: Axes, place: ParameterValue, trial: TrialView, colour: str, size: int, limits: Limits) -> None:
    """Draw a trial; one that lies beyond the limits becomes an arrow at their edge."""
    complete, value = trial.state is TrialState.COMPLETE, trial.value or 0.0
    inside = min(max(value, limits[0]), limits[1])
    axes.scatter(
        [float(place)],
        [inside],
        s=size,
        marker="o" if inside == value else "^" if value > inside else "v",
        facecolors=colour if complete else PAPER,
        edgecolors=colour,
        linewidths=1.0,
        alpha=0.9 if complete else 0.6,
        zorder=3 if complete else 2,
        clip_on=False,
    )


def _rank(trial: TrialView) -> float:
    rank = trial.parameters.get("lora_rank")
    return float(rank) if isinstance(rank, int | float) else 0.0


def _rank_colours(shown: Sequence[TrialView]) -> dict[float, str]:
    ranks = {_rank(t) for t in shown if "lora_rank" in t.parameters}
    return ramp(sorted(ranks)) if 1 < len(ranks) <= _MOST_COLOURS else {}


def limits_of(values: Sequence[float], direction: Direction) -> Limits:
    """Leave out what is so bad that the differences among the good could no longer be seen."""
    ranked = sorted(direction.signed(value) for value in values)
    best, median, worst = ranked[0], statistics.median(ranked), ranked[-1]
    limit = worst if median == best else min(worst, median + _FARTHEST * (median - best))
    low, high = sorted((direction.signed(best), direction.signed(limit)))
    return low, high


def show(axes: Axes, limits: Limits) -> None:
    """Have the y axis show values within limits, with a margin."""
    margin = 0.06 * (limits[1] - limits[0])
    if margin:
        axes.set_ylim(limits[0] - margin, limits[1] + margin)
