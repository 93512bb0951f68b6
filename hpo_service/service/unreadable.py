"""Studies that another version made and this one cannot read: passed over, each mentioned once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from hpo_service.errors import UnreadableStudyError

log = logging.getLogger(__name__)


class Unreadable:
    """What one process has said about studies that it cannot read; one of them must not stop work on the others."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    @contextmanager
    def passed_over(self) -> Iterator[None]:
        """Leave the block where a study in it cannot be read, and say so the first time."""
        try:
            yield
        except UnreadableStudyError as error:
            if str(error) not in self._said:
                self._said.add(str(error))
                log.warning("%s; other studies go on", error)
