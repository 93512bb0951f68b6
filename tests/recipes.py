"""Recipes with any hyper-parameter, and rows as a child would have written them, for tests of what is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.service.studies.winner.recipe import Recipe
from hpo_service.service.studies.winner.rows import WrittenRows


def recipe(
    *, model: dict[str, Any] | None = None, data: dict[str, Any] | None = None, base: str = "org/large", **training: Any
) -> Recipe:
    """A recipe with these hyper-parameters."""
    spec = TrainingSpec.model_validate({"epochs": 3, "effective_batch": 8, **training})
    return Recipe(
        study="mine",
        trial="confirm #4",
        label="winner 1",
        verdict="the winner is better than the default by 2.20%",
        base=base,
        model=ModelSpec.model_validate({"base": base, **(model or {})}),
        data=DataSpec.model_validate({"source": "org/rows", "max_length": 64, **(data or {})}),
        training=spec,
        searched_epochs=1,
        seed=1043,
        micro_batch=4,
        accumulation=spec.effective_batch // 4,
        compute="float32",
        versions="python 3.12, torch 2.13",
        test=2.5,
    )


def rows(shape: str = "prompt-completion", *, model: str = "org/large", folder: Path = Path("data")) -> WrittenRows:
    """120 training rows of this shape."""
    return WrittenRows(
        folder=folder,
        shape=shape,
        train=120,
        validation=20,
        model=model,
        end="</s>",
        template=True,
        unlearned_turns=0,
    )
