"""What is done to a fleet at work: workers and children, the database and its clock, files, other studies."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import psycopg
from fleet import Fleet, Worker
from poison import insert_poison

from hpo_service.bootstrap import Service
from hpo_service.failpoint import LABELS
from hpo_service.wire.attempt_folder import AttemptFolder

LEASE_SECONDS = 4.0
FREEZE_SECONDS = 1.5 * LEASE_SECONDS
OUTAGE_SECONDS = 1.5
JUMP_SECONDS = 25 * LEASE_SECONDS
PATIENCE = 45.0
"""Seconds within which the fleet must have left."""
POISONED_STUDIES = 8
"""Each is looked at by every worker that serves all studies: a few are as good as many."""
# Stages are advanced by whoever gets there first, and this objective writes its own checkpoints.
ELSEWHERE = {"checkpoint.written", "filestore.parts", "filestore.manifest", "stage.planned", "stage.opened"}
CLOCK = """
CREATE TABLE clock (ahead double precision NOT NULL);
INSERT INTO clock VALUES (0);
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
  'SELECT pg_catalog.clock_timestamp() + make_interval(secs => (SELECT ahead FROM public.clock))';
ALTER DATABASE postgres SET search_path = public, pg_catalog;
"""
"""Puts a clock before the server's own that can be set."""


@dataclass
class Attack:
    """The running attack: who is frozen until when, what was done so far, and to whom.

    Attributes:
        broken: workers whose trials always fail.
        unfit: workers that cannot write their output.
        damaged: checkpoints in which bytes were changed.
        poisoned: names of the studies that cannot be served.
        for_everything: workers that serve every study.
    """

    fleet: Fleet
    service: Service
    server: Any
    dice: random.Random
    done: Counter[str] = field(default_factory=Counter)
    frozen: list[tuple[float, psutil.Process]] = field(default_factory=list)
    broken: list[Worker] = field(default_factory=list)
    unfit: list[Worker] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    poisoned: list[str] = field(default_factory=list)
    for_everything: list[Worker] = field(default_factory=list)

    @cached_property
    def kinds(self) -> dict[str, tuple[int, Callable[[], bool]]]:
        """How often each thing is done, relative to the others, and how."""
        return {
            "worker killed (SIGKILL)": (8, self._kill_worker),
            "child killed (SIGKILL)": (10, self._kill_child),
            "worker frozen past its lease": (6, self._freeze_worker),
            "child frozen": (4, self._freeze_child),
            "spot notice (SIGTERM)": (6, self._notice),
            "killed at a labelled point": (8, self._failpoint),
            "connections cut": (10, self._cut),
            "database restarted": (2, self._restart_database),
            "node whose trials fail": (6, self._break_node),
            "node that cannot start": (2, self._start_unfit),
            "checkpoint damaged": (60, self._damage_checkpoint),
            "clock set forward": (2, self._jump),
            "study that cannot be served": (2, self._poison),
        }

    @property
    def trials(self) -> Path:
        """Folder of the folders of the trials under attack."""
        return self.service.settings.output / self.fleet.study / "trials"

    def watch_clock(self) -> None:
        """Have the database tell the time by a clock that can be set; connections from now on see it."""
        with self._maintenance() as connection:
            connection.execute(CLOCK)

    def strike(self) -> None:
        """Do one thing to the fleet, chosen at random, new things first; what finds no victim gives way to another."""
        new = [name for name in self.kinds if not self.done[name]]
        names = new if new and self.dice.random() < 0.5 else list(self.kinds)
        while names:
            name = self.dice.choices(names, [self.kinds[n][0] for n in names])[0]
            if self.kinds[name][1]():
                self.done[name] += 1
                return
            names.remove(name)

    def take_database_away(self, seconds: float) -> None:
        """Stop the database and start it again after so many seconds."""
        self.server.stop()
        time.sleep(seconds)
        self.server.start()
        self.done[f"database away for {seconds:g} s"] += 1

    def thaw(self, *, everyone: bool = False) -> None:
        """Wake what has slept long enough."""
        now = time.monotonic()
        for until, process in list(self.frozen):
            if everyone or now >= until:
                self._send(process, signal.SIGCONT)
                self.frozen.remove((until, process))

    def keep_up(self, count: int, for_everything: int) -> None:
        """Start workers in place of those that are gone, so many of which serve every study."""
        missing = for_everything - sum(worker.poll() is None for worker in self.for_everything)
        self.for_everything += self.fleet.start(max(0, missing), everything=True)
        self.fleet.start(max(0, count - len(self.fleet.alive)))

    def end(self) -> None:
        """Have everybody leave: those who serve every study wait for one that cannot be served."""
        for worker in self.for_everything:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        self.fleet.wait(PATIENCE)
        # the last to leave removes what those have left who were killed
        self.fleet.start(1)
        self.fleet.wait(PATIENCE)

    # --- processes ---------------------------------------------------------------------------------------------

    def _awake(self, processes: list[psutil.Process]) -> psutil.Process | None:
        asleep = {process.pid for _, process in self.frozen}
        awake = [process for process in processes if process.pid not in asleep and process.is_running()]
        return self.dice.choice(awake) if awake else None

    def _worker(self) -> psutil.Process | None:
        """Any worker but those that are broken already."""
        spared = {worker.pid for worker in (*self.broken, *self.unfit)}
        processes = []
        for worker in self.fleet.alive:
            try:
                processes += [psutil.Process(worker.pid)] if worker.pid not in spared else []
            except psutil.Error:
                continue
        return self._awake(processes)

    def _send(self, process: psutil.Process | None, number: signal.Signals) -> bool:
        if process is None:
            return False
        try:
            process.send_signal(number)
        except psutil.Error:
            return False
        return True

    def _kill_worker(self) -> bool:
        return self._send(self._worker(), signal.SIGKILL)

    def _kill_child(self) -> bool:
        return self._send(self._awake(self.fleet.children()), signal.SIGKILL)

    def _notice(self) -> bool:
        return self._send(self._worker(), signal.SIGTERM)

    def _freeze(self, process: psutil.Process | None, seconds: float) -> bool:
        if process is None or not self._send(process, signal.SIGSTOP):
            return False
        self.frozen.append((time.monotonic() + seconds, process))
        return True

    def _freeze_worker(self) -> bool:
        return self._freeze(self._worker(), FREEZE_SECONDS)

    def _freeze_child(self) -> bool:
        return self._freeze(self._awake(self.fleet.children()), 1.0)

    def _failpoint(self) -> bool:
        label = self.dice.choice([label for label in LABELS if label not in ELSEWHERE])
        self.fleet.start(1, failpoint=f"{label}:{self.dice.randint(1, 4)}")
        return True

    # --- nodes -------------------------------------------------------------------------------------------------

    def _break_node(self) -> bool:
        self.broken += self.fleet.start(1, CHAOS_BROKEN="1")
        return True

    def _start_unfit(self) -> bool:
        """Start a worker in an output folder that is a file."""
        file = self.service.settings.output / "not-a-folder"
        file.touch()
        self.unfit += self.fleet.start(1, HPO_SERVICE_OUTPUT=str(file))
        return True

    # --- the database, and what is in it -----------------------------------------------------------------------

    def _maintenance(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.get_uri("postgres"), autocommit=True)

    def _cut(self) -> bool:
        with self._maintenance() as connection:
            rows = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'hpo-service' AND random() < 0.5"
            ).fetchall()
        return bool(rows)

    def _restart_database(self) -> bool:
        self.server.stop()
        time.sleep(OUTAGE_SECONDS)
        self.server.start()
        return True

    def _jump(self) -> bool:
        with self._maintenance() as connection:
            connection.execute("UPDATE clock SET ahead = ahead + %s", (JUMP_SECONDS,))
        return True

    def _poison(self) -> bool:
        if len(self.poisoned) == POISONED_STUDIES:
            return False
        with self._maintenance() as connection:
            self.poisoned.append(insert_poison(self.service, connection, len(self.poisoned)))
        return True

    # --- files -------------------------------------------------------------------------------------------------

    def _damage_checkpoint(self) -> bool:
        """Change a checkpoint that waits for the next attempt, to one that can be read and is ahead of the truth."""
        with self._maintenance() as connection:
            waiting = connection.execute(
                "SELECT number, attempt FROM hpo_trial JOIN hpo_study ON hpo_study.id = study_id "
                "WHERE hpo_trial.state = 'waiting' AND hpo_study.name = %s",
                (self.fleet.study,),
            ).fetchall()
        folders = [self.trials / f"search-{number:04d}" for number, _ in waiting]
        for folder in map(AttemptFolder.numbered, folders, [attempt for _, attempt in waiting]):
            saved = folder.checkpoint / "step.json"
            if not folder.seal.exists() or saved in self.damaged:
                continue
            try:
                saved.write_bytes(saved.read_bytes().translate(bytes(b ^ 4 if 48 <= b < 56 else b for b in range(256))))
            except OSError:  # taken up, and removed, meanwhile
                continue
            self.damaged.append(saved)
            return True
        return False
