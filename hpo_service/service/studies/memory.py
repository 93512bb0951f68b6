"""What the trials of a study will need of a GPU's memory, told from the configurations of its models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpo_service.domain.decide.memory_outlook import Outlook, memory_outlook
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import NotFoundError, UsageError
from hpo_service.service.studies.model_config import read_config


@dataclass(frozen=True)
class ModelMemory:
    """One model of a study (`base` or `target`) and what its trials need."""

    role: str
    name: str
    outlook: Outlook


def memory_of(spec: StudySpec, cache: Path) -> tuple[list[ModelMemory], list[str]]:
    """Return the models of a study with their outlooks, and a line for each of which nothing can be said.

    Args:
        spec: the study.
        cache: where builtin models are kept.

    Raises:
        UsageError: the study trains no model of ours.
        NotFoundError: nothing can be said of any of its models.
    """
    if spec.model is None:
        raise UsageError(f"study {spec.name} has an objective of its own: what that needs cannot be told")
    if all(METHODS[str(method)].base == "new" for method in spec.values_of("method")):
        raise UsageError(
            f"study {spec.name} builds its models from scratch, in sizes that trials choose: they are small"
        )
    models, missing = [], []
    for role, name in (("base", spec.model.base), ("target", spec.model.target)):
        if name is None:
            continue
        try:
            shape = ModelShape.read(read_config(name, cache, spec.model.revision_of(name)))
        except NotFoundError as error:
            missing.append(str(error))
            continue
        outlook = memory_outlook(spec, shape, target=role == "target") if shape is not None else None
        if outlook is None:
            missing.append(f"model {name}: its configuration does not tell what a trial needs")
        else:
            models.append(ModelMemory(role, name, outlook))
    if not models:
        raise NotFoundError("; ".join(missing))
    return models, missing
