"""What a worker asks the database and still has to tell it, in order; an outage makes it wait, never forget."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hpo_service.errors import (
    DatabaseFaultError,
    DatabaseUnavailableError,
    HpoServiceError,
    NotFoundError,
    SchemaError,
    StaleLeaseError,
)

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 10.0

log = logging.getLogger(__name__)
T = TypeVar("T")
D = TypeVar("D")


def _crash(error: Exception) -> None:
    raise error


@dataclass(frozen=True)
class Delivery:
    """One call to the database about a trial; what to do with its answer, its refusal, an error nobody expects."""

    trial: str
    call: Callable[[], Any]
    answered: Callable[[Any], None]
    refused: Callable[[HpoServiceError], None]
    broken: Callable[[Exception], None] = _crash


class Outbox:
    """Delivers in order. After an outage it waits with growing, jittered pauses before it tries again."""

    def __init__(self, clock: Callable[[], float], jitter: random.Random) -> None:
        self._clock = clock
        self._jitter = jitter
        self._pending: deque[Delivery] = deque()
        self._pause = 0.0
        self._retry_at = 0.0

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def database_away(self) -> bool:
        """Whether the last attempt found the database away."""
        return self._pause > 0

    @property
    def may_try(self) -> bool:
        """Whether the pause after the last outage is over."""
        return self._clock() >= self._retry_at

    def ask(self, call: Callable[[], T], default: D) -> T | D:
        """Call the database at once; while it is away, answer with the default and leave it alone for a while.

        So too where a study was deleted between two steps of the call: the next call will not see it.
        """
        if not self.may_try:
            return default
        try:
            answer: T | D = call()
        except DatabaseUnavailableError as error:
            if not self.database_away:
                log.warning("%s; training goes on", error)
            self.outage()
            return default
        except NotFoundError as error:
            log.warning("%s", error)
            answer = default
        self.reached()
        return answer

    def put(self, delivery: Delivery) -> None:
        """Queue a delivery behind all others."""
        self._pending.append(delivery)

    def forget(self, trial: str) -> None:
        """Drop what is pending about a trial that is no longer ours."""
        self._pending = deque(d for d in self._pending if d.trial != trial)

    def flush(self) -> bool:
        """Deliver all that is pending; return False where the database is away.

        A trial that is no longer ours, or was deleted with its study, has the rest of its deliveries dropped.
        """
        while self._pending:
            if not self.may_try:
                return False
            delivery = self._pending[0]
            try:
                answer = delivery.call()
            except DatabaseUnavailableError:
                self.outage()
                return False
            except (DatabaseFaultError, SchemaError):
                raise  # no trial's fault, and nothing can be delivered: another worker takes the trials up
            except (StaleLeaseError, NotFoundError) as error:
                self.reached()
                self.forget(delivery.trial)
                delivery.refused(error)
            except Exception as error:
                # One trial's poisoned input must not end the worker: it is told, and the others go on.
                log.exception("the database refused a delivery about %s", delivery.trial)
                self.forget(delivery.trial)
                delivery.broken(error)
            else:
                self._pending.popleft()
                self.reached()
                delivery.answered(answer)
        return True

    def hurry(self) -> None:
        """End the pause: this worker is about to leave and tries once more."""
        self._retry_at = self._clock()

    def outage(self) -> None:
        """Note that the database is away: pause, twice as long as last time, with jitter."""
        self._pause = min(LAST_RETRY_SECONDS, max(FIRST_RETRY_SECONDS, 2 * self._pause))
        self._retry_at = self._clock() + self._pause * self._jitter.uniform(0.5, 1.0)

    def reached(self) -> None:
        """Note that the database answered."""
        self._pause = 0.0
