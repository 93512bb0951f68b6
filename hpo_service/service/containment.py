"""Work on many studies, of which one that cannot be served must not stop the others: contained, said once, retried."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from hpo_service.errors import (
    DatabaseFaultError,
    DatabaseUnavailableError,
    HpoServiceError,
    SchemaError,
    UnreadableStudyError,
)

FIRST_PAUSE = 1.0
"""Seconds before work on a study that failed is tried again, doubled with each further failure."""
LONGEST_PAUSE = 300.0
"""Seconds that the pause grows to."""
OF_THE_DATABASE = (DatabaseUnavailableError, DatabaseFaultError, SchemaError)
"""Failures of the whole database: no study's fault, and no other study would fare better."""

log = logging.getLogger(__name__)


class Work(StrEnum):
    """What is done for a study by whoever is alive."""

    READ = "reading it"
    CLAIM = "a claim"
    ADVANCE = "advancing it"
    REAP = "taking trials back"


@dataclass
class _Trouble:
    """What went wrong last with some work on a study, how often in a row, and when it may be tried again."""

    reason: str
    times: int
    again_at: float


class Containment:
    """What one process knows of studies whose work failed; each kind of work on each study by itself.

    Interrupts and failures of the whole database pass through; so does a refusal to read a study to whoever asked
    for that study alone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know of no trouble yet.

        Args:
            clock: monotonic seconds.
        """
        self._clock = clock
        self._troubles: dict[tuple[Work, str], _Trouble] = {}
        self._said: set[tuple[str, str]] = set()

    def rests(self, work: Work, study: str) -> bool:
        """Whether this work on a study failed so lately that it is to be left alone for now."""
        trouble = self._troubles.get((work, study))
        return trouble is not None and self._clock() < trouble.again_at

    @contextmanager
    def of(self, work: Work, study: str, *, alone: bool = False) -> Iterator[None]:
        """Leave the block where the work in it fails, say so where that is news, and have the study rest for a while.

        Args:
            work: what is done.
            study: the name of the study.
            alone: nobody asked for other studies, so that one of another version is an error.
        """
        try:
            yield
        except OF_THE_DATABASE:
            raise
        except Exception as error:
            if alone and isinstance(error, UnreadableStudyError):
                raise
            self._note(work, study, error)
        else:
            over = self._troubles.pop((work, study), None)
            if over is not None:
                self._said.discard((study, over.reason))

    def _note(self, work: Work, study: str, error: Exception) -> None:
        reason, before = _reason(error), self._troubles.get((work, study))
        times = before.times + 1 if before else 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(times - 1, 32))
        self._troubles[work, study] = _Trouble(reason, times, self._clock() + pause)
        if before is not None and before.reason != reason:
            self._said.discard((study, before.reason))  # it is news when it comes back
        if (study, reason) in self._said:
            return
        self._said.add((study, reason))
        if isinstance(error, UnreadableStudyError):
            log.warning("%s; other studies go on", reason)
            return
        expected = isinstance(error, HpoServiceError)
        what = "study %s: %s failed (%s); it is tried again after pauses of up to %g s, other studies go on"
        log.warning(what, study, work, reason, LONGEST_PAUSE, exc_info=None if expected else error)


def _reason(error: Exception) -> str:
    """The first line of what an error says; of one that nobody expected its kind too."""
    said = (str(error).strip().splitlines() or [""])[0]
    return said if isinstance(error, HpoServiceError) and said else f"{type(error).__name__}: {said}".rstrip(": ")
