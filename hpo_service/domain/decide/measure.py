"""What the values of a study are: a loss, what an objective of the user's own reports, or a metric of answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpo_service.domain.decide.pruning import Measure
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.sections.evaluation import LABELS
from hpo_service.domain.study.spec import StudySpec

Unit = Literal["%", "points", ""]
"""What a difference of two values is given in: percent of the first, hundredths, or as it is."""

OF_OWN_OBJECTIVE = "value"
LOSS = "mean NLL per token"


@dataclass(frozen=True)
class StudyMeasure:
    """What a trial that ran to its end is worth, and how that is said.

    Attributes:
        name: what the values are, in words.
        direction: which of them are better.
        unit: what differences are given in.
        reported: what trials report on the way to their end; where it is not `name`, values of trials that were stopped
            early say nothing beside those of complete ones, and there are none.
        metric: the metric of answers that it is, as facts name it; empty for others.
    """

    name: str
    direction: Direction
    unit: Unit
    reported: str
    metric: str = ""

    @property
    def is_loss(self) -> bool:
        """Whether values are mean NLLs per token, which have a perplexity."""
        return self.name == LOSS

    @property
    def reports_losses(self) -> bool:
        """Whether what trials report on the way are such."""
        return self.reported == LOSS

    @property
    def curve(self) -> str:
        """What curves of trials are called."""
        return self.reported if self.reported == OF_OWN_OBJECTIVE else f"validation {self.reported}"

    @property
    def known_on_the_way(self) -> bool:
        """Whether what a trial reports on the way is what it is worth in the end."""
        return self.name == self.reported


def measure_of(spec: StudySpec) -> StudyMeasure:
    """Return what the values of a study are.

    Metrics of ours lie between 0 and 1, so that their differences are told in points, which are hundredths; nothing is
    known of the scale of a metric of the user's own.
    """
    selected, direction = spec.evaluation.select, spec.search.direction
    if spec.objective is not None:
        return StudyMeasure(OF_OWN_OBJECTIVE, direction, "%", OF_OWN_OBJECTIVE)
    if selected is None:
        return StudyMeasure(LOSS, direction, "%", LOSS)
    metric = selected.removeprefix("python:")
    return StudyMeasure(LABELS.get(selected, metric), direction, "points" if selected in LABELS else "", LOSS, metric)


def reported(spec: StudySpec) -> Measure:
    """Return what the trials of a study report on the way, which pruning compares; a loss is minimised."""
    if spec.objective is not None:
        return Measure(OF_OWN_OBJECTIVE, spec.search.direction, "run")
    return Measure("validation loss", Direction.MINIMIZE, "run" if spec.training.epochs > 1 else "epoch")
