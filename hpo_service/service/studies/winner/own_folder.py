"""A folder that one command may fill, and fill again: never one that holds something of a person's."""

from __future__ import annotations

from pathlib import Path

from hpo_service.errors import ConflictError

MARK = ".hpo-service"
"""File that says which command the folder is of."""


def claim(folder: Path, command: str) -> None:
    """Make a folder a command's own; what lies in it may then be replaced.

    Args:
        folder: new, empty, or claimed by the same command before.
        command: such as `merge`.

    Raises:
        ConflictError: it holds something else; nothing was changed.
    """
    mark = folder / MARK
    if folder.is_dir() and any(folder.iterdir()) and not _is_of(mark, command):
        raise ConflictError(
            f"{folder} holds something that `{command}` has not written: name an empty or new folder with --into"
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(f"{command}\n", encoding="utf-8")


def _is_of(mark: Path, command: str) -> bool:
    try:
        return mark.read_text(encoding="utf-8").strip() == command
    except (OSError, UnicodeDecodeError):
        return False
