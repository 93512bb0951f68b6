"""The figure of one trial: its learning curve. None where nothing is to be drawn."""

from __future__ import annotations

from hpo_service.presentation.report.drawing import WINNER, drawing, svg
from hpo_service.presentation.report.figures import WIDTH
from hpo_service.service.studies.trial_record import TrialRecord


def curve(record: TrialRecord, measure: str) -> str | None:
    """Value against the share of the run, with a dot where few values would be no line."""
    points = [(100 * r.fraction, r.value) for r in record.trial.curve if r.value is not None]
    if not points:
        return None
    with drawing(WIDTH, 2.8) as (figure, (axes,)):
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            "-o",
            color=WINNER,
            linewidth=1.8,
            markersize=3 if len(points) <= 40 else 0,
        )
        axes.set_xlabel("% of the run")
        axes.set_ylabel(measure.replace(" ", "\n", 1))
        return svg(figure, "curve", f"Learning curve of trial {record.stage} #{record.trial.number}")
