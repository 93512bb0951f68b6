"""From a share of the training rows to all of them: the learning rate falls with their number."""

from __future__ import annotations

from collections.abc import Mapping

from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.spec import StudySpec

ROWS_EXPONENT = -0.26
"""Best learning rate over the number of training rows: as N^-0.26, a rule of thumb from fine-tuning on subsets. In
pre-training it was measured to fall about as N^-0.32 (arXiv 2409.19913)."""


def for_all_rows(
    spec: StudySpec, parameters: Mapping[str, ParameterValue], share: float
) -> tuple[dict[str, ParameterValue], str]:
    """Return a configuration found on a share of the rows as it is run on all of them, and the formula in words.

    Args:
        spec: of the study; a learning rate that is not searched is that of its training section.
        parameters: the configuration.
        share: that it was found on, above 0 and up to 1.
    """
    rate = spec.training.hyperparameters().with_values(parameters).learning_rate
    grown = rate * (1 / share) ** ROWS_EXPONENT
    words = (
        f"learning rate {rate:.3g} x {1 / share:.3g}^{ROWS_EXPONENT:g} for {1 / share:.3g} times the rows = {grown:.3g}"
    )
    return {**parameters, "learning_rate": grown}, words
