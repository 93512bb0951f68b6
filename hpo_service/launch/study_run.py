"""Work on one study from here: start its workers, and watch until it ends or somebody interrupts."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hpo_service.errors import DatabaseUnavailableError, HpoServiceError
from hpo_service.launch.pool import WorkerPool
from hpo_service.service.studies.checks import require_not_held
from hpo_service.service.studies.snapshot import StudySnapshot
from hpo_service.service.studies.watch import StudyWatch
from hpo_service.service.trials.reaper import Reaper
from hpo_service.service.workers import Activity, Workers

REFRESH_SECONDS = 0.5
"""How often the study is read again."""
DRAIN_SECONDS = 100.0
"""How long workers may take to save and leave after an interruption before they are ended."""
ABORT_SECONDS = 5.0
"""How long after a second one."""


class RunView(Protocol):
    """Who is shown a run."""

    def update(self, snapshot: StudySnapshot) -> None:
        """Take the study as it is now."""

    def working(self, activities: Mapping[str, Activity]) -> None:
        """Take what workers say that they do, by their ids."""

    def note(self, line: str) -> None:
        """Take a line about something that is not in the study itself, such as a worker that was started again."""

    def log(self, line: str) -> None:
        """Take a line of a worker's log; only a verbose run has any."""


@dataclass
class StudyRun:
    """One study and the workers that were planned for it.

    Attributes:
        study: its name.
        pool: its workers.
        watch: reads the study, often.
        workers: tells what workers are busy with.
        reaper: takes trials back from workers that are gone.
        verbose: hand the view what workers log, too.
    """

    study: str
    pool: WorkerPool
    watch: StudyWatch
    workers: Workers
    reaper: Reaper
    verbose: bool = False
    _interruptions: int = 0
    _told: set[str] = field(default_factory=set)
    _last_words: str = ""

    def interrupt(self) -> None:
        """Have the workers save and leave; a second time, at once. Fit for a signal handler."""
        self._interruptions += 1
        self.pool.signal(signal.SIGTERM)

    def work(self, view: RunView) -> StudySnapshot:
        """Run workers until the study ends, they do, or somebody interrupts.

        Returns:
            The study: at its end, or where it stood when it was interrupted.

        Raises:
            ConflictError: somebody paused, drained or cancelled the study meanwhile.
            HpoServiceError: all workers ended for good before it did.
        """
        self.pool.start()
        try:
            snapshot = self._watch(view)
        except BaseException:
            # nobody watches them any more (a closed pipe, a full disk): they save, give back what they have and leave
            if not self._interruptions:
                self.interrupt()
            raise
        finally:
            if not self.pool.wait(DRAIN_SECONDS if self._interruptions < 2 else ABORT_SECONDS):
                view.note("workers that did not leave in time were ended; their trials are taken up again later")
        self._tell_logs(view)
        # those that left last may have changed it after the last look
        with contextlib.suppress(DatabaseUnavailableError):
            self.reaper.reap()
            snapshot = self.watch.snapshot(self.study)
            view.update(snapshot)
        if not (self._interruptions and not snapshot.state.final):
            self._check(snapshot)
        return snapshot

    def _watch(self, view: RunView) -> StudySnapshot:
        snapshot = self.watch.snapshot(self.study)
        answered = 0
        while not snapshot.state.final and self.pool.alive:
            time.sleep(REFRESH_SECONDS)
            for line in self.pool.watch() if not self._interruptions else []:
                self._last_words = line
                view.note(line)
            self._tell_logs(view)
            if self._interruptions > answered:
                answered = self._interruptions
                view.note(
                    "stopping: running trials save a checkpoint (Ctrl-C again to stop at once)"
                    if answered == 1
                    else "stopping at once"
                )
            try:
                snapshot, activities = self.watch.snapshot(self.study), self.workers.activities()
            except DatabaseUnavailableError as error:
                view.note(f"{error}; the workers go on")
                continue
            view.working(activities)
            view.update(snapshot)
            self._tell_long(view, activities)
        return snapshot

    def _tell_logs(self, view: RunView) -> None:
        for line in self.pool.said() if self.verbose else []:
            view.log(line)

    def _tell_long(self, view: RunView, activities: Mapping[str, Activity]) -> None:
        """Tell once of what takes so long that its share is counted."""
        for activity in sorted({each.text for each in activities.values() if "%" in each.text} - self._told):
            self._told.add(activity)
            view.note(activity)

    def _check(self, snapshot: StudySnapshot) -> None:
        """Refuse an end that is none."""
        require_not_held(snapshot.name, snapshot.state, snapshot.reason)
        if not snapshot.state.final:
            last = f"the last said: {self._last_words}; " if self._last_words else ""
            raise HpoServiceError(
                f"study {self.study} has not ended but no worker is left: {last}see {self.pool.logs}, "
                "mend the cause, then run the same command again"
            )
