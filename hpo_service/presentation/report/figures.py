"""The figures of proof and transfer: intervals, seeds, the learning-rate bracket. None where nothing is to be drawn."""

from __future__ import annotations

import statistics

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.formatting import configuration, number
from hpo_service.presentation.report.drawing import DEFAULT, INK, MUTED, PAPER, RAMP, WINNER, drawing, svg
from hpo_service.presentation.stage_summary import lr_factor
from hpo_service.service.studies.findings.comparison import DEFAULT as DEFAULT_LABEL
from hpo_service.service.studies.findings.evidence import Evidence
from hpo_service.service.studies.snapshot import StudySnapshot, TrialView

WIDTH = 7.2
"""Inches; the page scales figures to its own width."""
_MARKERS = "osD^vP*X"


def interval(evidence: Evidence) -> str | None:
    """Each winner's improvement over the default with its interval, against the line of no difference."""
    rows = [(label, c) for label, c in evidence.comparisons.items() if c.low is not None and c.high is not None]
    if not rows:
        return None
    with drawing(WIDTH, 0.8 + 0.35 * len(rows)) as (figure, (axes,)):
        axes.axvline(0, color=INK, linewidth=1)
        for place, (_, comparison) in enumerate(rows):
            ends = [comparison.low or 0.0, comparison.high or 0.0]
            colour = WINNER if comparison.distinguishable else MUTED
            axes.plot(ends, [place] * 2, "-|", color=colour, linewidth=2.5, markersize=10, markeredgewidth=2)
            axes.plot([comparison.improvement], [place], "s", color=colour, markersize=7)
        axes.set_yticks(range(len(rows)), [f"{label} vs default" for label, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        unit = f" in {rows[0][1].unit}" if rows[0][1].unit else ""
        axes.set_xlabel(f"improvement{unit}: better right of 0, worse left of it")
        return svg(figure, "interval", "Improvement of the winner over the default with its interval")


def seeds(evidence: Evidence) -> str | None:
    """One dot per confirmation run and the mean of each configuration; test values where all have one."""
    rows = [c for c in evidence.configurations if c.validation is not None]
    if not evidence.confirmed or not rows:
        return None
    tested = all(run.test is not None for c in rows for run in c.runs if run.validation is not None)
    with drawing(WIDTH, 0.8 + 0.35 * len(rows)) as (figure, (axes,)):
        for place, row in enumerate(rows):
            values = [v for run in row.runs if (v := run.test if tested else run.validation) is not None]
            colour = DEFAULT if row.label == DEFAULT_LABEL else WINNER
            axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.75, markersize=6)
            axes.plot([statistics.fmean(values)], [place], "|", color=INK, markersize=20, markeredgewidth=2)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.margins(x=0.08)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(
            f"{f'test {evidence.measure}' if tested else evidence.selected_on}; a dot is a seed, the bar their mean"
        )
        return svg(figure, "seeds", "Values of the confirmation runs, seed by seed")


def bracket(snapshot: StudySnapshot, measure: str) -> str | None:
    """Loss on the target model against the multiple of the carried-over learning rate, a line per configuration."""
    view = snapshot.where(lambda rule: rule.carries_over)
    points = [t for t in view.trials if t.value is not None and lr_factor(t) is not None] if view else []
    if not points:
        return None
    carried: dict[int | None, list[TrialView]] = {}
    for trial in points:
        carried.setdefault(trial.origin_id, []).append(trial)
    with drawing(WIDTH, 3.0) as (figure, (axes,)):
        for index, (origin, trials) in enumerate(carried.items()):
            _bracket_line(axes, snapshot, origin, trials, index)
        factors = sorted({factor for t in points if (factor := lr_factor(t)) is not None})
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(factors))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"× {value:g}"))
        axes.margins(x=0.08)
        axes.set_xlabel("multiple of the learning rate carried over from the small model; hollow: stopped early")
        axes.set_ylabel(measure.replace(" ", "\n", 1))
        axes.legend(loc="best")
        return svg(figure, "bracket", "Loss on the target model at each multiple of the carried-over learning rate")


def _bracket_line(axes: Axes, snapshot: StudySnapshot, origin: int | None, trials: list[TrialView], index: int) -> None:
    colour, marker = RAMP[(4 - 2 * index) % len(RAMP)], _MARKERS[index % len(_MARKERS)]
    points = sorted(
        ((f, t.value, t) for t in trials if t.value is not None and (f := lr_factor(t)) is not None),
        key=lambda point: point[0],
    )
    complete = [(factor, value) for factor, value, t in points if t.state is TrialState.COMPLETE]
    stopped = [(factor, value) for factor, value, t in points if t.state is not TrialState.COMPLETE]
    label = _origin_label(snapshot, origin)
    axes.plot([f for f, _ in complete], [v for _, v in complete], f"-{marker}", color=colour, label=label)
    axes.plot([f for f, _ in stopped], [v for _, v in stopped], marker, color=colour, markerfacecolor=PAPER)


def _origin_label(snapshot: StudySnapshot, origin: int | None) -> str:
    found = next(((view, trial) for view in snapshot.stages for trial in view.trials if trial.id == origin), None)
    if found is None:
        return "carried over"
    view, trial = found
    few = {k: v for k, v in trial.parameters.items() if k in ("learning_rate", "lora_rank")}
    return f"{view.stage} #{number(trial.number)} ({configuration(few)})"
