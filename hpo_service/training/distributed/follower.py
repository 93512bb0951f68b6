"""A process of a trial that does not lead: it has no pipe to the supervisor, trains its share, and ends with rank 0."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import BaseModel

from hpo_service.wire.child import Channel, RunTrial, Stopped, TrialLink

if TYPE_CHECKING:
    from hpo_service.training.distributed.process_group import ProcessGroup

# Seconds between two looks at whether the launcher is still there.
LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


class SilentChannel(Channel):
    """A channel to nobody: rank 0 says what is to be said."""

    def __init__(self) -> None:
        """Open nothing."""

    def send(self, message: BaseModel) -> None:
        """Say nothing."""

    def touch(self, progress: Mapping[str, float] | None = None, activity: str = "") -> None:
        """Say nothing."""

    @contextmanager
    def busy(self, activity: str, limit: float = 0.0) -> Iterator[None]:
        """Say nothing, but to the log of who looks for it."""
        log.debug("%s, for up to %g s", activity, limit)
        yield


def leave_stdio_to_leader() -> None:
    """Leave standard input and output, which lead to the supervisor, to rank 0, and signals too.

    Standard output leads to standard error from here on. SIGTERM is for rank 0, which saves and then ends the others.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def end_with_launcher() -> None:
    """End this process soon after the launcher that started it, for no signal of the supervisor reaches it then."""
    launcher = os.getppid()

    def look() -> None:
        while os.getppid() == launcher:
            time.sleep(LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=look, name="launcher-watch", daemon=True).start()


def follow(ranks: ProcessGroup, run: RunTrial) -> int:
    """Train this rank's share of every trial that rank 0 calls for; return the exit status of the process."""
    from hpo_service.training.device.faults import is_fatal

    while (admit := ranks.next_trial()) is not None:
        try:
            run(TrialLink(admit, SilentChannel(), lambda _: False))
        except Stopped:
            continue
        # Rank 0 has heard of it, and tells the supervisor.
        except Exception as error:
            log.warning("rank %d: trial %s: %s: %s", ranks.rank, admit.trial, type(error).__name__, error)
            if is_fatal(error):
                return 1
    return 0
