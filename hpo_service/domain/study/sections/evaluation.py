"""What is measured of a model's answers: beside its loss in the last stages of a study, or to select on."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from hpo_service.domain.study.protocol import PLANNED_STAGES
from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.spelling import nearest
from hpo_service.domain.study.validation import one_of

METRIC_FACT = "metric:"
"""What the names of facts that are task metrics start with."""

METRICS: dict[str, str] = {
    "exact_match": "share of rows whose answer is the reference, spaces at the ends and repeated ones aside",
    "token_f1": "mean F1 of the words, as SQuAD counts them (Rajpurkar et al., 2016)",
    "rouge_l": "mean F1 of the longest common subsequence of words (Lin, 2004)",
}
"""Metrics by name, and what each is; all lie between 0 and 1, and more is better."""

LABELS: dict[str, str] = {"exact_match": "exact match", "token_f1": "token F1", "rouge_l": "ROUGE-L"}
"""What metrics are called in sentences."""

OWN = re.compile(r"python:[\w.]+:[\w.]+")
"""How a metric of the user's own is named."""


class EvaluationSpec(Section):
    """Task metrics: answers are generated from the prompts of rows, and compared with what stands there.

    They are shown beside the loss, and measured on test rows; `select` is measured on validation rows and decides.
    """

    metrics: list[str] = Field(
        default=[],
        max_length=20,
        description="exact_match, token_f1, rouge_l, or a function of your own as python:package.module:function.",
    )
    select: str | None = Field(
        default=None,
        description="The metric that a study selects on instead of the loss, named as in metrics: every trial that "
        "runs to its end answers validation rows, and how well is its value. Pruning goes on by the loss.",
    )
    examples: int = Field(
        default=64,
        ge=1,
        le=100_000,
        description="Rows answered, of the test rows or the validation rows; always the same.",
    )
    max_new_tokens: int = Field(default=128, ge=1, le=8192, description="Longest answer in tokens; decoding is greedy.")
    stages: list[Annotated[str, one_of(PLANNED_STAGES)]] = Field(
        default=["confirm"], min_length=1, description="Stages whose trials are measured so: verify, confirm or both."
    )

    @field_validator("metrics")
    @classmethod
    def _metrics_are_known(cls, metrics: list[str]) -> list[str]:
        for name in metrics:
            _require_known(name)
        if len(set(metrics)) < len(metrics):
            raise ValueError("names a metric twice; drop one")
        return metrics

    @field_validator("select")
    @classmethod
    def _selected_is_known(cls, name: str | None) -> str | None:
        if name is not None:
            _require_known(name)
        return name


def _require_known(name: str) -> None:
    if name in METRICS or OWN.fullmatch(name):
        return
    near = nearest(name, METRICS)
    those = f"the nearest is {near}" if near else f"those are {', '.join(METRICS)}"
    raise ValueError(f"{name} is no metric; {those}, or python:package.module:function for one of your own")
