"""The search as a whole: how the best came down, what mattered, which configurations were good, what carried over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from hpo_service.domain.study.search_space import CategoricalParameter, Parameter, ParameterValue
from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.formatting import number
from hpo_service.presentation.report.drawing import INK, MUTED, WINNER, drawing, svg
from hpo_service.presentation.report.figures import WIDTH
from hpo_service.presentation.report.search_figures import limits_of, show
from hpo_service.service.studies.snapshot import StudySnapshot, TrialView

NOT_READ = -0.15
"""Where a line goes through a parameter that its configuration does not have: below the axis."""


def _measured(snapshot: StudySnapshot) -> list[TrialView]:
    view = snapshot.where(lambda rule: rule.proposes)
    found = [t for t in view.trials if t.state is TrialState.COMPLETE and not t.violated] if view else []
    return sorted(
        (t for t in found if t.value is not None and math.isfinite(t.value)), key=lambda trial: trial.number or 0
    )


def history(snapshot: StudySnapshot, measure: str) -> str | None:
    """The value of every complete trial in the order of their numbers, and the best up to each."""
    shown, direction = _measured(snapshot), snapshot.spec.search.direction
    if len(shown) < 2:
        return None
    values = [trial.value or 0.0 for trial in shown]
    best = [min(values[: place + 1], key=direction.badness) for place in range(len(values))]
    numbers = [trial.number or 0 for trial in shown]
    with drawing(WIDTH, 2.6) as (figure, (axes,)):
        axes.plot(numbers, values, "o", color=MUTED, markersize=5, label="a trial")
        axes.plot(numbers, best, drawstyle="steps-post", color=WINNER, linewidth=2.0, label="the best so far")
        show(axes, limits_of(values, direction))
        axes.set_xlabel("number of the trial; those stopped early are left out")
        axes.set_ylabel(measure.replace(" ", "\n", 1))
        axes.legend(loc="best")
        return svg(figure, "history", "Values of the search in the order of its trials")


def importance(shares: Mapping[str, float]) -> str | None:
    """Bars with each parameter's share, the largest on top."""
    if not shares:
        return None
    names = list(shares)
    with drawing(WIDTH, 0.6 + 0.28 * len(names)) as (figure, (axes,)):
        axes.barh(range(len(names)), [100 * shares[name] for name in names], color=WINNER, height=0.6)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("% of what tells the best quarter of the configurations from all")
        return svg(figure, "importance", "How much each parameter mattered")


def parallel(snapshot: StudySnapshot, measure: str) -> str | None:
    """Every complete configuration as a line through its parameters, the best quarter in colour."""
    shown, space = _measured(snapshot), snapshot.spec.space.resolve().parameters
    names = [name for name in space if any(name in trial.parameters for trial in shown)]
    if len(shown) < 4 or len(names) < 2:
        return None
    ranked = sorted(shown, key=lambda trial: snapshot.spec.search.direction.badness(trial.value or 0.0))
    good = ranked[: max(1, len(ranked) // 4)]
    with drawing(WIDTH, 3.4) as (figure, (axes,)):
        for trial in reversed(ranked):
            heights = [_height(space[name], trial.parameters.get(name)) for name in names]
            width = 2.8 if trial is ranked[0] else 1.6 if trial in good else 0.8
            colour = WINNER if trial in good else MUTED
            axes.plot(range(len(names)), heights, color=colour, linewidth=width, alpha=0.8, zorder=2 + width)
        for place, name in enumerate(names):
            axes.axvline(place, color=INK, linewidth=0.6, zorder=1)
            for height, text in _marks(space[name]):
                axes.annotate(text, (place, height), fontsize=7, color=INK, xytext=(3, 0), textcoords="offset points")
        axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=8)
        axes.yaxis.set_major_locator(NullLocator())
        axes.set_ylim(NOT_READ - 0.08, 1.08)
        axes.margins(x=0.06)
        axes.grid(visible=False)
        handles = [
            Line2D([], [], color=WINNER, linewidth=2.8, label=f"best {measure}"),
            Line2D([], [], color=WINNER, linewidth=1.6, label="best quarter"),
            Line2D([], [], color=MUTED, linewidth=0.8, label="others"),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
        return svg(figure, "parallel", "Configurations as lines through their parameters")


def _height(parameter: Parameter, value: ParameterValue | None) -> float:
    """Where a value stands in its range, 0 to 1, as it was sampled; below where the configuration has none."""
    if value is None:
        return NOT_READ
    if isinstance(parameter, CategoricalParameter):
        places = list(parameter.choices)
        return places.index(value) / max(1, len(places) - 1) if value in places else NOT_READ
    low, high, at = float(parameter.low), float(parameter.high), float(value)
    if parameter.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low) if high > low else 0.5


def _marks(parameter: Parameter) -> Sequence[tuple[float, str]]:
    if isinstance(parameter, CategoricalParameter):
        return [(_height(parameter, choice), number(choice)) for choice in parameter.choices]
    return [(0.0, number(parameter.low)), (1.0, number(parameter.high))]


def carried(snapshot: StudySnapshot, measure: str) -> str | None:
    """The value on the small model against the best on the target, a point for each configuration carried over."""
    small = {trial.id: trial for view in snapshot.stages for trial in view.trials if trial.value is not None}
    view = snapshot.where(lambda rule: rule.carries_over)
    best: dict[int, float] = {}
    for trial in view.trials if view else []:
        if trial.origin_id in small and trial.state is TrialState.COMPLETE and trial.value is not None:
            known = best.get(trial.origin_id)
            values = [trial.value] if known is None else [known, trial.value]
            best[trial.origin_id] = min(values, key=snapshot.spec.search.direction.badness)
    points = [(small[origin].value or 0.0, value, small[origin].number) for origin, value in best.items()]
    if len(points) < 2:
        return None
    with drawing(WIDTH, 2.6) as (figure, (axes,)):
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "o", color=WINNER, markersize=7)
        for x, y, which in points:
            axes.annotate(f" #{number(which)}", (x, y), color=INK, va="center", annotation_clip=False)
        axes.set_xlabel(f"{measure} on the small model")
        axes.set_ylabel("best on\nthe target")
        axes.margins(x=0.12, y=0.15)
        return svg(figure, "carried", "Configurations on the small model and on the target")
