"""Whoever keeps a launch: it has workers started while the study needs them, and obeys what the database says."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import DatabaseUnavailableError, HpoServiceError, SchedulerError
from hpo_service.launch.dispatch import Dispatch
from hpo_service.launch.inherited import OWN_COMMAND
from hpo_service.launch.launch import Launch
from hpo_service.launch.launcher import Launcher
from hpo_service.launch.options import LaunchOptions
from hpo_service.service.launches import LaunchRow, LaunchState
from hpo_service.service.studies.checks import HELD
from hpo_service.service.trials.demand import Demand, Demands

ROUND_SECONDS = 5.0
"""Pause between two looks at the study and the scheduler."""
TICK_SECONDS = 0.5
"""Pause between two looks at workers that are this process's own."""
FIRST_PAUSE = 10.0
"""Pause before more workers are started while no trial has ended since, doubled each time up to `LONGEST_PAUSE`."""
LONGEST_PAUSE = 600.0
TROUBLE_SECONDS = 1800.0
"""How long a scheduler may refuse before the launch is given up."""
VAIN_STARTS = 5
"""After so many such starts in a row the launch is given up."""


@dataclass
class Keeper:
    """Keeps one launch until its study needs no more workers, it is cancelled, or somebody interrupts.

    Attributes:
        id: of the launch.
        dispatch: starts and ends workers.
        demands: tells what of the study is left.
        tend: takes trials back from silent workers and has studies advance, as an idle worker does.
        note: takes a line for people.
        clock: monotonic seconds.
        sleep: waits so many seconds.
        round_seconds: between two looks at the study and the scheduler.
    """

    id: str
    dispatch: Dispatch
    demands: Demands
    tend: Callable[[], object]
    note: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    round_seconds: float = ROUND_SECONDS
    _interruptions: int = 0
    _asked_for: int = 0
    _vain: int = 0
    _start_at: float = 0.0
    _begun: bool = False
    _trouble_since: float | None = None
    _done: tuple[str, int] | None = None

    def interrupt(self) -> None:
        """Leave; workers of this process save and leave too, a second time at once. Fit for a signal handler."""
        self._interruptions += 1

    @property
    def interrupted(self) -> bool:
        """Whether somebody had it leave."""
        return self._interruptions > 0

    def keep(self) -> str:
        """Keep the launch; return why that came to an end.

        Raises:
            ConflictError: another process keeps it.
            HpoServiceError: workers leave over and over without a trial having ended.
        """
        launcher = self.dispatch.launcher_of(self.dispatch.launches.take(self.id))
        try:
            return self._rounds(launcher)
        except HpoServiceError as error:
            with contextlib.suppress(DatabaseUnavailableError):
                self.dispatch.launches.end(self.id, str(error))
            raise
        finally:
            self._await_leaving(launcher)

    def _rounds(self, launcher: Launcher) -> str:
        look_at, reason = 0.0, ""
        while not reason:
            if self._interruptions:
                return self._leave(launcher)
            for line in launcher.tick():
                self.note(line)
            if self.clock() >= look_at:
                look_at = self.clock() + self.round_seconds
                try:
                    reason = self._round(launcher)
                except DatabaseUnavailableError as error:
                    self.note(f"{error}; the workers go on")
                except SchedulerError as error:
                    self._bear(error)
                else:
                    self._trouble_since = None
            if not reason:
                self.sleep(TICK_SECONDS)
        return reason

    def _bear(self, error: SchedulerError) -> None:
        """Try again later what a scheduler refused, unless it has refused from the beginning, or for long."""
        if self._trouble_since is None:
            self._trouble_since = self.clock()
            self.note(f"{error}; it is tried again")
        if not self._begun or self.clock() - self._trouble_since > TROUBLE_SECONDS:
            raise error

    def _await_leaving(self, launcher: Launcher) -> None:
        """Stay until workers that live no longer than this process have left."""
        if not launcher.keeps or not launcher.jobs():
            return
        launcher.cancel()
        answered = self._interruptions
        while launcher.jobs():
            if self._interruptions > answered:
                answered = self._interruptions
                launcher.cancel(now=True)
            for line in launcher.tick():
                self.note(line)
            self.sleep(TICK_SECONDS)

    def _round(self, launcher: Launcher) -> str:
        """Look once; return why the launch has ended, or nothing."""
        row = self.dispatch.launches.beat(self.id)
        if row.state is not LaunchState.ACTIVE:
            self.note(f"the launch is {row.state}: {row.reason}")
            if not launcher.keeps:
                launcher.cancel()
            return row.reason
        self.tend()
        options = launcher.options.read(row.options)
        demand = self.demands.of(row.study, options.hours)
        there = sum(job.workers for job in launcher.jobs())
        self._begun = self._begun or there > 0
        over = _over(row, demand, there)
        if over:
            launcher.settle()
            self.dispatch.launches.end(self.id, over)
            return over
        self._adjust(launcher, row, options, demand, there)
        return ""

    def _adjust(self, launcher: Launcher, row: LaunchRow, options: LaunchOptions, demand: Demand, there: int) -> None:
        """Have as many workers as are wanted and of use."""
        if row.workers < there:
            left = there - row.workers
            withdrawn = launcher.withdraw(left)
            self.dispatch.launches.drain_workers(self.id, left - withdrawn, f"{row.workers} workers wanted", row.by)
            self._asked_for = row.workers
            return
        if options.until_done:
            missing = min(row.workers, demand.workers) - there
            if missing > 0 and self._may_start(there, demand):
                self._start(launcher, missing, f"{demand.workers} can be of use in {demand.stage}")
        elif row.workers > self._asked_for:
            self._start(launcher, row.workers - self._asked_for, f"{row.workers} wanted")
        elif not there:
            raise HpoServiceError(
                f"study {row.study} has not ended but no worker of launch {self.id} is left: see "
                f"`hpo-service launch logs {self.id}`, mend the cause, then launch workers anew"
            )
        if not options.until_done:
            self._asked_for = row.workers

    def _may_start(self, there: int, demand: Demand) -> bool:
        """Whether to start more: not over and over, unless trials have ended meanwhile."""
        done = (demand.stage, demand.ended)
        if done != self._done:
            self._done, self._vain, self._start_at = done, 0, 0.0
        if self.clock() < self._start_at:
            return False
        if self._vain > VAIN_STARTS and not there:
            raise HpoServiceError(
                f"workers of launch {self.id} left {VAIN_STARTS} times without a trial having ended: see "
                f"`hpo-service launch logs {self.id}`, mend the cause, then launch workers anew"
            )
        self._start_at = self.clock() + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self._vain)
        self._vain += 1
        return True

    def _start(self, launcher: Launcher, workers: int, why: str) -> None:
        jobs = self.dispatch.submit(launcher, self.id, workers)
        self.note(f"{workers} workers started ({why}): {', '.join(jobs)}")

    def _leave(self, launcher: Launcher) -> str:
        reason = "whoever kept it was interrupted"
        if launcher.keeps:
            self.note("stopping: running trials save a checkpoint (once more to stop at once)")
            with contextlib.suppress(DatabaseUnavailableError):
                self.dispatch.launches.cancel(self.id, reason, "")
            return reason
        self.note(
            f"workers go on; `hpo-service launch keep {self.id}` goes on starting them, "
            f"`hpo-service launch cancel {self.id}` ends them"
        )
        return reason


def _over(row: LaunchRow, demand: Demand, there: int) -> str:
    """Why no workers are wanted any more; empty while they are."""
    if there:
        return ""
    if demand.state.final:
        return f"study {row.study} is {demand.state}"
    if demand.state in (*HELD, StudyState.CANCELLED):
        return f"study {row.study} is {demand.state}: launch workers anew once it is resumed"
    return demand.forbidden and f"{demand.forbidden}: raise the cap and launch workers anew to go on"


def keep_in_background(launch: Launch[LaunchOptions], storage: str) -> int:
    """Keep a launch in a process of its own, which outlives this one and its terminal; return its number."""
    launch.logs.mkdir(parents=True, exist_ok=True)
    with (launch.logs / f"{launch.log_prefix}-keeper.log").open("ab") as log_file:
        process = subprocess.Popen(
            [*OWN_COMMAND, "launch", "keep", launch.id],
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            # the URL may hold a password: it is not for the command line
            env={**os.environ, "HPO_SERVICE_STORAGE": storage},
            start_new_session=True,
        )
    return process.pid
