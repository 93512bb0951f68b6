"""Removing what is not needed any more from the store, in a thread: a store that is slow must not cost a lease."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from hpo_service.errors import FileStoreError
from hpo_service.filestore.adapters import reaches, remove_adapter
from hpo_service.filestore.attempts import discard_checkpoints, trial_place
from hpo_service.filestore.store import store_at

CLOSE_SECONDS = 30.0
"""How long a worker that leaves waits for what is still to be removed; the rest is left to `hpo-service clean`."""

log = logging.getLogger(__name__)


class Removal:
    """Does one thing after the other, beside the worker's loop; what fails is said and left."""

    def __init__(self, store: str = "", output: Path = Path()) -> None:
        """Remove nothing yet.

        Args:
            store: URL of the store; empty where there is none.
            output: the output folder, in which adapters lie where there is none.
        """
        self._store, self._output = store_at(store), output
        self._asked: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def checkpoints(self, study: str, key: str, identity: str) -> None:
        """Have what the store holds of a trial's checkpoints removed."""
        if self._store is not None:
            place = trial_place(study, key, identity)
            self.ask(partial(discard_checkpoints, self._store, place))

    def reaches(self, adapter: str) -> bool:
        """Whether an adapter can be removed from here."""
        return reaches(adapter, self._output, self._store)

    def adapters(self, adapters: Iterable[str]) -> None:
        """Have adapters removed that are kept no longer."""
        for adapter in adapters:
            self.ask(partial(remove_adapter, adapter, self._store))

    def ask(self, remove: Callable[[], object]) -> None:
        """Have something removed soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="removal", daemon=True)
            self._thread.start()
        self._asked.put(remove)

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Wait until all is removed, but no longer than so; tell whether it was."""
        if self._thread is None:
            return True
        self._asked.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (remove := self._asked.get()) is not None:
            try:
                remove()
            except FileStoreError as error:
                log.warning("%s; `hpo-service clean` removes it later", error)
