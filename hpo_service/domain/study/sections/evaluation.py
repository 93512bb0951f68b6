"""What is measured of a model's answers, beside its loss, in the last stages of a study."""

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

OWN = re.compile(r"python:[\w.]+:[\w.]+")
"""How a metric of the user's own is named."""


class EvaluationSpec(Section):
    """Task metrics: answers are generated from the prompts of test rows, and compared with what stands there."""

    metrics: list[str] = Field(
        default=[],
        max_length=20,
        description="exact_match, token_f1, rouge_l, or a function of your own as python:package.module:function.",
    )
    examples: int = Field(default=64, ge=1, le=100_000, description="Test rows answered, always the same.")
    max_new_tokens: int = Field(default=128, ge=1, le=8192, description="Longest answer in tokens; decoding is greedy.")
    stages: list[Annotated[str, one_of(PLANNED_STAGES)]] = Field(
        default=["confirm"], min_length=1, description="Stages whose trials are measured so: verify, confirm or both."
    )

    @field_validator("metrics")
    @classmethod
    def _metrics_are_known(cls, metrics: list[str]) -> list[str]:
        for name in metrics:
            if name not in METRICS and not OWN.fullmatch(name):
                near = nearest(name, METRICS)
                those = f"the nearest is {near}" if near else f"those are {', '.join(METRICS)}"
                raise ValueError(f"{name} is no metric; {those}, or python:package.module:function for one of your own")
        if len(set(metrics)) < len(metrics):
            raise ValueError("names a metric twice; drop one")
        return metrics
