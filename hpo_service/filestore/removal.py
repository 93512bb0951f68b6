"""Removing what is not needed any more from the store, in a thread: a store that is slow must not cost a lease."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from hpo_service.errors import FileStoreError

CLOSE_SECONDS = 30.0
"""How long a worker that leaves waits for what is still to be removed; the rest is left to `hpo-service clean`."""

log = logging.getLogger(__name__)


class Removal:
    """Does one thing after the other, beside the worker's loop; what fails is said and left."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

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
