"""The sizes of a model, read without loading it."""

from __future__ import annotations

from pathlib import Path

from hpo_service.domain.memory.shape import ModelShape
from hpo_service.errors import ModelError
from hpo_service.service.studies.model_config import read_config


def shape_of(name: str, cache: Path) -> ModelShape:
    """Read the sizes of a model off its `config.json`: of a local folder, of the hub's cache, or of a builtin model.

    Raises:
        NotFoundError: it is not on this machine; the message says how to get it.
        ModelError: its configuration does not name them.
    """
    shape = ModelShape.read(read_config(name, cache))
    if shape is None:
        raise ModelError(f"model {name}: its config.json names no hidden size and heads, so nothing can be counted")
    return shape
