"""What tells one state of a study's data from another: cheaply on this machine, or by content anywhere."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sources import BUILTIN
from hpo_service.errors import DataError
from hpo_service.training.data.reading.source import Place, load_from_hub, local_files, places

CHUNK = 1 << 20
# Fields of a study's data that say where its content is found; the others say what is made of it.
WHERE = ("source", "validation", "test", "subset", "hub_split")
# Fields that came later, with what stood for them before: there they are left out, and what was made then still fits.
BEFORE: dict[str, Any] = {
    "validation": None,
    "test": None,
    "columns": {},
    "prompt_template": None,
    "system": None,
    "as_chat": False,
    "chat_template": None,
    "weight": None,
}


def unasked(spec: DataSpec) -> set[str]:
    """Fields that came later and that a study does not use."""
    return {name for name, value in BEFORE.items() if getattr(spec, name) == value}


def stamp(spec: DataSpec) -> str:
    """Names, sizes and times of local sources' files: equal stamps, unchanged rows; others are their name.

    Raises:
        DataError: a local source is not there.
    """
    seen = [
        (str(path), status.st_size, status.st_mtime_ns)
        for place in places(spec)
        for path in local_files(place.source, place.part) or []
        for status in [path.stat()]
    ]
    return json.dumps([*(getattr(spec, name) for name in WHERE if name not in unasked(spec)), seen])


def content_digest(spec: DataSpec) -> str:
    """SHA-256 of what rows are read from, wherever it lies: files with their endings, or hub data sets' tables.

    Builtin data follow from the version of Python whose library they are made of.

    Raises:
        DataError: a source is missing or cannot be read.
    """
    digests = [(place.part or "source", _digest(place)) for place in places(spec)]
    if len(digests) == 1:
        return digests[0][1]
    return _digest_of(*(f"{part} {digest}" for part, digest in digests))


def _digest(place: Place) -> str:
    source = place.source
    if source.startswith(BUILTIN):
        return _digest_of(f"{source} {platform.python_version()}")
    files = local_files(source, place.part)
    try:
        if files is not None:
            return _digest_of(*(f"{path.suffix} {_file_digest(path)}" for path in files))
        return _hub_digest(place)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {' '.join(str(error).split())}") from error


def _hub_digest(place: Place) -> str:
    data = load_from_hub(place)
    # A slice such as `train[:10%]` shares its file with the whole split.
    tables = [_file_digest(Path(each["filename"])) for each in data.cache_files]
    if not tables:
        return _digest_of(*(json.dumps(row, sort_keys=True, default=str) for row in data))
    return _digest_of(place.split or "", str(len(data)), *tables)


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _digest_of(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="surrogatepass")).hexdigest()
