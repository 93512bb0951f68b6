"""Digests of files, by which damage is found that leaves their size as it was: a flipped bit, a torn write."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_text(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def digests_of(folder: Path) -> dict[str, str]:
    """Digests of all files in a folder and those in it, by their path within it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_of(path) for path in files}


def damaged_file(folder: Path, digests: Mapping[str, str]) -> str:
    """Name the first file that is not as its digest says, or that is missing; empty where all are whole."""
    for name, digest in digests.items():
        try:
            if digest_of(folder / name) != digest:
                return name
        except OSError:
            return name
    return ""
