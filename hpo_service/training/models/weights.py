"""Whether the weights of a model in a local folder can be loaded, from names, sizes and headers: none is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
)

# How a file begins that Git LFS has left in the place of a large one.
POINTER = b"version https://git-lfs"
# Bytes that give the length of a safetensors file's header.
LENGTH_BYTES = 8


def weights_fault(folder: Path) -> str:
    """Say why weights cannot be loaded from a model's folder, or nothing where nothing speaks against it."""
    if (folder / "adapter_config.json").exists():  # an adapter's base lies elsewhere
        return ""
    for name, index in ((SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME), (WEIGHTS_NAME, WEIGHTS_INDEX_NAME)):
        if (folder / name).exists():
            return _file_fault(folder / name)
        if (folder / index).exists():
            return next(filter(None, _index_faults(folder / index)), "")
    return f"holds no weights: there is no {SAFE_WEIGHTS_NAME} and no {WEIGHTS_NAME}, whole or in parts"


def _index_faults(index: Path) -> Iterator[str]:
    try:
        parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        yield f"has an unreadable {index.name}: fetch it again"
        return
    missing = [part for part in parts if not (index.parent / part).exists()]
    if missing:
        yield f"lacks {len(missing)} of the {len(parts)} files of its weights, {missing[0]} first: fetch them again"
    for part in parts:
        yield _file_fault(index.parent / part)


def _file_fault(path: Path) -> str:
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(len(POINTER))
            if start == POINTER:
                return f"has a pointer of Git LFS in the place of {path.name}: run `git lfs pull` in its folder"
            if path.suffix != ".safetensors":
                return "" if size else f"has an empty {path.name}: fetch it again"
            stream.seek(0)
            header = int.from_bytes(stream.read(LENGTH_BYTES), "little")
            if header > size - LENGTH_BYTES:
                raise ValueError("the header is cut")
            entries = json.loads(stream.read(header))
        end = max((each["data_offsets"][1] for name, each in entries.items() if name != "__metadata__"), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"has a damaged {path.name}: fetch it again"
    expected = LENGTH_BYTES + header + end
    return "" if size == expected else f"has a damaged {path.name} ({size} of {expected} bytes): fetch it again"
