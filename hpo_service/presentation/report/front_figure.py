"""The figure of several goals: the loss against each cost, the front marked. None where nothing is to be drawn."""

from __future__ import annotations

from hpo_service.domain.study.direction import Direction
from hpo_service.presentation.front import goal_label
from hpo_service.presentation.report.drawing import MUTED, PAPER, WINNER, drawing, log_scale, svg
from hpo_service.presentation.report.figures import WIDTH
from hpo_service.presentation.report.search_figures import limits_of, show
from hpo_service.service.studies.findings.front import Front


def front_figure(front: Front | None, direction: Direction, measure: str) -> str | None:
    """Draw a panel for each cost; those on the front are filled, and with one cost a line leads through them.

    Losses that are so bad that the differences among the good could not be seen stand at the edge.
    """
    if front is None:
        return None
    costs = front.goals[1:]
    limits = limits_of([point.values[0] for point in front.points], direction)
    with drawing(WIDTH, 3.2, 1, len(costs)) as (figure, panels):
        for place, (cost, axes) in enumerate(zip(costs, panels, strict=True), start=1):
            for point in front.points:
                axes.scatter(
                    [point.values[place]],
                    [min(max(point.values[0], limits[0]), limits[1])],
                    s=40 if point.best else 24,
                    facecolors=WINNER if point.best else PAPER,
                    edgecolors=WINNER if point.best else MUTED,
                    linewidths=1.0,
                    zorder=3 if point.best else 2,
                    clip_on=False,
                )
            if len(costs) == 1:
                best = sorted((point.values[place], point.values[0]) for point in front.best)
                axes.step([x for x, _ in best], [y for _, y in best], where="post", color=WINNER, linewidth=1.2)
            if all(point.values[place] > 0 for point in front.points):
                log_scale(axes)
            show(axes, limits)
            axes.set_xlabel(goal_label(cost))
        panels[0].set_ylabel(measure.replace(" ", "\n", 1))
        return svg(figure, "front", "Loss against each cost, with the trials that no other beats in all goals")
