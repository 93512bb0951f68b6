"""Which files of a folder hold rows: not the hidden ones, and not what tools write beside their data."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from hpo_service.errors import DataError

# In which `datasets` names the files of a data set that it saved, and the splits where it saved several.
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"
METADATA = {SAVED, SAVED_SPLITS, "dataset_info.json", "dataset_infos.json"}
# What names of hidden files and folders begin with: `.ipynb_checkpoints`, `__MACOSX`.
HIDDEN = (".", "__")
# Endings of files that people keep rows in and that no reader knows.
UNREAD = {".gz", ".bz2", ".xz", ".zst", ".zip", ".ndjson", ".jsonlines", ".tsv", ".xlsx", ".pkl", ".feather"}
# Words in names of files or folders that say what their rows are for.
TRAINING, HELD_OUT = {"train", "training"}, {"test", "testing", "valid", "validation", "val", "dev", "eval"}
# What data sets call the split of a held-out part.
SPLITS_OF = {"validation": ("validation", "valid", "val", "dev", "eval"), "test": ("test", "testing")}
# Copies that `datasets` keeps of its own results beside a saved data set.
CACHED = "cache-*.arrow"


def data_files(folder: Path, endings: Collection[str], part: str | None = None) -> list[Path]:
    """The files below a folder that hold rows, in the order in which they are read.

    Of a folder that `datasets` saved these are the files it names, of the split that `chosen_split` gives.

    Raises:
        DataError: a saved data set lacks one of its files.
    """
    saved = _saved(folder, part)
    return saved or sorted(each for each in folder.rglob("*") if each.suffix in endings and _holds_rows(each, folder))


def chosen_split(splits: Sequence[str], part: str | None = None) -> str:
    """The split whose rows are read: the one called like the held-out part they are for, else `train` or the first."""
    wanted = [name for name in SPLITS_OF.get(part or "", ()) if name in splits]
    return wanted[0] if wanted else "train" if "train" in splits else splits[0]


def doubts(folder: Path, files: Sequence[Path]) -> Iterator[str]:
    """What of a folder is probably not meant, where these of its files are read."""
    words = [set(re.split(r"[^a-z]+", str(each.relative_to(folder)).lower())) for each in files]
    training = next((each.name for each, said in zip(files, words, strict=True) if said & TRAINING), None)
    held_out = next((each.name for each, said in zip(files, words, strict=True) if said & HELD_OUT - TRAINING), None)
    if training and held_out and training != held_out:
        remedy = "name the file to train on as data.source, and the others as data.validation and data.test"
        yield f"{folder} holds files for training and for tests ({training}, {held_out}), and all are read: {remedy}"
    unread = sorted(each for each in folder.rglob("*") if each.suffix in UNREAD and _holds_rows(each, folder))
    if unread:
        more = f"{len(unread)} files that are" if len(unread) > 1 else "a file that is"
        yield f"{folder} also holds {more} not read ({unread[0].name}): unpack or convert what is to be trained on"


def _holds_rows(path: Path, folder: Path) -> bool:
    if path.name in METADATA or path.match(CACHED) or not path.is_file():
        return False
    return not any(part.startswith(HIDDEN) for part in path.relative_to(folder).parts)


def _saved(folder: Path, part: str | None) -> list[Path]:
    if (folder / SAVED_SPLITS).is_file():
        splits = _list_in(folder / SAVED_SPLITS, "splits")
        if not splits:
            return []
        folder /= chosen_split(list(map(str, splits)), part)
    if not (folder / SAVED).is_file():
        return []
    named = _list_in(folder / SAVED, "_data_files")
    files = [folder / str(each["filename"]) for each in named if isinstance(each, dict) and "filename" in each]
    missing = next((each for each in files if not each.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing} is missing, though {folder / SAVED} names it; save the data set again")
    return files


def _list_in(path: Path, key: str) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    found = content.get(key) if isinstance(content, dict) else None
    return found if isinstance(found, list) else []
