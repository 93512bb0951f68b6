"""Configurations of models that lie on this machine, read without the libraries that load models."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpo_service.domain.study.sources import BUILTIN
from hpo_service.errors import NotFoundError

CONFIG = "config.json"


def read_config(name: str, cache: Path, revision: str | None = None) -> dict[str, Any]:
    """Read a model's `config.json`: of a local folder, of a builtin model, or of the hub's cache.

    Args:
        name: as a study file names the model.
        cache: folder of builtin models' folder.
        revision: of a hub model; its newest by default.

    Raises:
        NotFoundError: it is not on this machine; the message says how to get it.
    """
    for path in _places(name, cache, revision):
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(config, dict):
            return config
    raise NotFoundError(f"model {name}: {_remedy(name)}")


def _places(name: str, cache: Path, revision: str | None) -> Iterator[Path]:
    if name.startswith(BUILTIN):
        yield from sorted((cache / "models").glob(f"{name.removeprefix(BUILTIN)}-*/{CONFIG}"))
        return
    yield Path(name).expanduser() / CONFIG
    kept = hub_cache() / f"models--{name.replace('/', '--')}"
    commit = revision or "main"
    # a revision may be a commit itself
    with contextlib.suppress(OSError):
        commit = (kept / "refs" / commit).read_text(encoding="utf-8").strip()
    yield kept / "snapshots" / commit / CONFIG


def hub_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the hub's own libraries keep what they download."""
    given = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    if given:
        return Path(given).expanduser()
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def _remedy(name: str) -> str:
    if name.startswith(BUILTIN):
        return "it is made when a study first runs, and takes less than 0.1 GB"
    if Path(name).is_absolute():
        return f"there is no readable {CONFIG} in that folder"
    return f"its {CONFIG} is not on this machine: get it with `hf download {name} {CONFIG}`, or name a local folder"
