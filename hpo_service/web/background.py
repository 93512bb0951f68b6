"""What the server does by itself: settles silent workers' trials, moves studies on, tells webhooks, forgets."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from hpo_service.bootstrap import Service
from hpo_service.errors import DatabaseUnavailableError
from hpo_service.presentation.documents.events import message_of

log = logging.getLogger(__name__)

PERIOD_SECONDS = 15.0
"""Pause between two rounds. Workers do the same among themselves; the server is there when none is."""
STOP_SECONDS = 5.0
"""How long the end waits for a round."""


@dataclass
class Background:
    """A thread that goes its rounds until it is stopped; a round that fails is followed by the next."""

    service: Service
    period: float = PERIOD_SECONDS
    more: Sequence[Callable[[], object]] = ()
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _failing: bool = False

    def start(self) -> None:
        """Begin the rounds."""
        self._thread = threading.Thread(target=self._rounds, name="background", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End them, and wait a little for the one that is going on."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def round(self) -> None:
        """Go one round."""
        service = self.service
        tasks: list[Callable[[], object]] = [
            service.reaper.reap,
            service.stages.advance_all,
            service.access.tidy,
            service.idempotency.tidy,
            partial(service.webhooks.deliver, message_of),
            *self.more,
        ]
        try:
            for task in tasks:
                task()
            self._failing = False
        except DatabaseUnavailableError as error:
            if not self._failing:  # once for an outage, not once for a round
                log.warning("%s; the server goes on when it is back", error)
            self._failing = True

    def _rounds(self) -> None:
        while not self._stopping.is_set():
            try:
                self.round()
            except Exception:
                log.exception("a round failed; the next one comes in %g s", self.period)
            self._stopping.wait(self.period)
