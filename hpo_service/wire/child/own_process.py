"""The one process that speaks for a trial: copies that its code forks look the same, and must not."""

from __future__ import annotations

import os

from hpo_service.errors import ForkedProcessError


class OwnProcess:
    """Remembers the process in which it was made."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_this(self) -> bool:
        """Whether this is that process, and not a copy that was forked from it."""
        return os.getpid() == self._pid

    def require(self) -> None:
        """Refuse to go on in a copy.

        Raises:
            ForkedProcessError: this is one.
        """
        if not self.is_this:
            raise ForkedProcessError(
                f"only the process that runs the trial ({self._pid}) speaks for it, not one that was forked from it "
                f"({os.getpid()}): return values to the trial's own process and report there"
            )
