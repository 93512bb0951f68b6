"""Adapters where trials left them: a folder of this node or of all, or a place in the store."""

from __future__ import annotations

import shutil
from pathlib import Path

from hpo_service.filestore.attempts import ADAPTER
from hpo_service.filestore.store import FileStore


def reaches(adapter: str, output: Path, store: FileStore | None) -> bool:
    """Whether an adapter can be removed from here; nothing is that is not where trials keep theirs."""
    if adapter.rpartition("/")[2] != ADAPTER:
        return False
    if store is not None and adapter.startswith(f"{store.shown()}/"):
        return True
    folder = Path(adapter)
    return folder.is_relative_to(output) and folder.is_dir() and not folder.is_symlink()


def remove_adapter(adapter: str, store: FileStore | None) -> None:
    """Remove an adapter that can be reached from here; raises FileStoreError."""
    if store is not None and adapter.startswith(f"{store.shown()}/"):
        store.remove(adapter.removeprefix(f"{store.shown()}/"))
    else:
        shutil.rmtree(adapter, ignore_errors=True)
