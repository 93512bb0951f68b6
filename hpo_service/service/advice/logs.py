"""Logs of training runs as they lie on this machine's disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from hpo_service.domain.advise.run_log import RunLog
from hpo_service.errors import DataError, NotFoundError

LOG = "trainer_state.json"


def read_log(path: Path) -> tuple[Path, RunLog]:
    """Read the log of a run: a `trainer_state.json`, or a folder with one in it or in its checkpoints.

    Returns:
        The file that was read, and what is in it. Of several checkpoints it is that of the most steps.

    Raises:
        NotFoundError: there is no such file.
        DataError: it holds no log.
    """
    path = path.expanduser()
    file = path
    if path.is_dir():
        file = next(_within(path), path)
        if file == path:
            raise NotFoundError(f"{path}: there is no {LOG} in this folder or its checkpoint-N folders")
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"{file}: there is no such file") from None
    except (ValueError, RecursionError):
        raise DataError(f"{file}: is not JSON: give the {LOG} of a checkpoint folder") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    return file, RunLog.read(state, str(file))


def _within(folder: Path) -> Iterator[Path]:
    if (folder / LOG).is_file():
        yield folder / LOG
    kept = [path for path in folder.glob(f"checkpoint-*/{LOG}") if path.parent.name.partition("-")[2].isdecimal()]
    yield from sorted(kept, key=lambda path: -int(path.parent.name.partition("-")[2]))
