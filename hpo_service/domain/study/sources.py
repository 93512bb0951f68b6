"""Where models and data come from, told by their names: made by the project, on this machine, or from the hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

BUILTIN = "builtin:"
BUILTIN_MODELS = ("builtin:llama-tiny", "builtin:llama-small")
BUILTIN_TOKENIZERS = ("builtin:bytes",)
BUILTIN_DATA = ("builtin:stdlib-docstrings",)


class DataFile(StrEnum):
    """Files that rows are read from, by their endings; the trainer has a reader for each."""

    JSONL = ".jsonl"
    JSON = ".json"
    CSV = ".csv"
    PARQUET = ".parquet"
    ARROW = ".arrow"


@dataclass(frozen=True)
class Surroundings:
    """What a study file's reader must ask of the machine; the domain itself touches no disk.

    Attributes:
        absolute: makes a path absolute, relative ones starting at the folder of the study file.
        exists: whether a file or folder of this absolute path exists, or one that a pattern fits.
        architecture: `model_type` of the model in a local folder, None where it cannot be told.
        installed: whether a package can be imported.
        text: what a file of this absolute path holds, None where it cannot be read as text.
        start: says where relative paths start, for messages.
    """

    absolute: Callable[[str], str]
    exists: Callable[[str], bool]
    architecture: Callable[[str], str | None]
    installed: Callable[[str], bool] = lambda _: True
    text: Callable[[str], str | None] = lambda _: None
    start: str = "relative paths start at the study file's folder"


def is_local(name: str, around: Surroundings) -> bool:
    """Whether a name means a path: it is written like one, or there is one (which wins over the hub)."""
    if name.startswith(BUILTIN):
        return False
    return looks_local(name) or around.exists(around.absolute(name))


def looks_local(name: str) -> bool:
    """Whether a name cannot be meant for the hub."""
    return name.startswith(("/", ".", "~")) or name.endswith(("/", *DataFile)) or is_pattern(name)


def is_pattern(name: str) -> bool:
    """Whether a name may stand for several files, as in `rows/*.jsonl`."""
    return any(mark in name for mark in "*?[")
