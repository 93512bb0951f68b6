"""What looking costs when there is much: pages, API and command line beside optuna-dashboard.

    python benchmarks/web.py                    # 1,000 and 10,000 finished trials, 200 studies, 200 workers, on SQLite
    python benchmarks/web.py --check --rounds 5

One study has the finished trials, with ten reports each; 199 others have none. Requests go over HTTP to a server in
this process, one after the other, and counts that `/metrics` keeps for seconds are made anew each time. Of commands the
time inside the process is taken, without the interpreter's start and imports. `--check` fails where, at the largest
size, a median is over its limit: 300 ms for pages and API, 100 ms for `/metrics`, a second for `study list` and `study
show`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import optuna
import uvicorn
from sqlalchemy import insert, select

from benchmarks.scale import STUDY, WORKER, fill, spec
from hpo_service.bootstrap import Service
from hpo_service.cli import main as command
from hpo_service.domain.access import Role
from hpo_service.settings import Settings
from hpo_service.storage import schema
from hpo_service.web.app import build_app
from hpo_service.web.options import ServeOptions

SIZES = (1_000, 10_000)
STUDIES = 200
WORKERS = 200
CONNECTIONS = 8

REQUESTS: dict[str, tuple[str, float]] = {
    "overview /": ("/", 300.0),
    "study page": (f"/studies/{STUDY}", 300.0),
    "GET /v1/studies": ("/v1/studies", 300.0),
    "GET /v1/studies/NAME": (f"/v1/studies/{STUDY}", 300.0),
    "a page of 100 trials": (f"/v1/studies/{STUDY}/trials?limit=100", 300.0),
    "one trial": (f"/v1/studies/{STUDY}/trials/search/500", 300.0),
    "GET /v1/workers": ("/v1/workers", 300.0),
    "100 events": (f"/v1/studies/{STUDY}/events", 300.0),
    "GET /metrics": ("/metrics", 100.0),
}
"""What is asked, and how many milliseconds it may take; a page that there is not yet is left out."""
COMMANDS: dict[str, tuple[list[str], float]] = {
    "study list": (["study", "list"], 1000.0),
    "study show": (["study", "show", STUDY], 1000.0),
    "study show --json --trials 0": (["study", "show", STUDY, "--json", "--trials", "0"], 1000.0),
}
LIMITS = {name: limit for name, (_, limit) in {**REQUESTS, **COMMANDS}.items()}
THEIRS = "optuna-dashboard's /api/studies/ID"
WHOLE = "study show --json, all trials"


class Scene:
    """A database with a study of one size and much beside it, and a server over it."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        settings = Settings(storage=f"sqlite:///{folder / f'{size}.db'}", output=folder, cache=folder)
        builder = Service(settings)
        builder.upgrade()
        builder.studies.create(spec(100_000))
        with builder.db.transaction():
            builder.worker_rows.register(WORKER, "localhost", os.getpid(), "0", "cpu")
        fill(builder, size)
        for number in range(1, STUDIES):
            builder.studies.create(spec(100).model_copy(update={"name": f"study-{number:03d}"}))
        add_workers(builder)
        secret = builder.access.issue("bench", Role.ADMIN).secret
        builder.db.dispose()
        self.url = settings.storage
        self.service = Service(settings, connections=CONNECTIONS)
        app: Any = build_app(self.service, ServeOptions(), background=False)
        self.metrics = app.app.state.metrics
        config = uvicorn.Config(app, port=0, log_config=None, ws="none", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        (socket,) = self._server.servers[0].sockets
        headers = {"Authorization": f"Bearer {secret}"}
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{socket.getsockname()[1]}", headers=headers, timeout=900.0, trust_env=False
        )
        studies = self.client.get("/api/studies").json()["study_summaries"]
        self.theirs = next(s["study_id"] for s in studies if s["study_name"].startswith(f"{STUDY}/"))

    def ask(self, path: str) -> float | None:
        """Return how many milliseconds an answer took; None where there is no such page."""
        html = {"Accept": "text/html"} if not path.startswith(("/v1", "/metrics", "/api")) else {}
        started = time.perf_counter()
        answer = self.client.get(path, headers=html)
        took = 1000 * (time.perf_counter() - started)
        if answer.status_code == 404 and html:
            return None
        answer.raise_for_status()
        return took

    def run(self, arguments: list[str]) -> float:
        """Return how many milliseconds a command took in this process."""
        os.environ["HPO_SERVICE_STORAGE"] = self.url
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            command(arguments)
        return 1000 * (time.perf_counter() - started)

    def stop(self) -> None:
        """End the server."""
        self.client.close()
        self._server.should_exit = True
        self._thread.join(30)
        self.service.db.dispose()


def add_workers(service: Service) -> None:
    """Have as many workers as asked for, like the one that there is."""
    with service.db.transaction():
        (row,) = service.db.connection.execute(select(schema.worker)).mappings().all()
        others = [{**row, "id": f"{WORKER}-{number}"} for number in range(1, WORKERS)]
        service.db.connection.execute(insert(schema.worker), others)


def calls_of(scene: Scene) -> Iterator[tuple[str, Callable[[], float | None]]]:
    """Everything that is measured of a scene, by name."""
    for name, (path, _) in REQUESTS.items():
        yield name, lambda path=path: scene.ask(path)  # type: ignore[misc]
    for name, (arguments, _) in COMMANDS.items():
        yield name, lambda arguments=arguments: scene.run(arguments)  # type: ignore[misc]


def measure(rounds: int) -> dict[str, dict[int, float]]:
    """Return medians in milliseconds by what is asked and by size; sizes are asked in turn."""
    times: dict[str, dict[int, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="hpo-") as name:
        scenes = [Scene(Path(name), size) for size in SIZES]
        for turn in range(rounds + 1):  # the first one reads what later ones remember, and is not counted
            for scene in scenes:
                for called, call in calls_of(scene):
                    scene.metrics._at = None  # what is kept for seconds is read anew each time
                    took = call()
                    if turn and took is not None:
                        times.setdefault(called, {}).setdefault(scene.size, []).append(took)
        for scene in scenes:
            theirs = scene.ask(f"/api/studies/{scene.theirs}?after=0")
            times.setdefault(THEIRS, {})[scene.size] = [theirs or 0.0]
            times.setdefault(WHOLE, {})[scene.size] = [scene.run(["study", "show", STUDY, "--json"])]
            scene.stop()
    return {name: {size: statistics.median(each) for size, each in sizes.items()} for name, sizes in times.items()}


def failures(found: dict[str, dict[int, float]]) -> list[str]:
    """Name what is slower than it was asked for at the largest size."""
    largest = max(SIZES)
    return [
        f"{name} takes {found[name][largest]:.0f} ms of {limit:.0f}"
        for name, limit in LIMITS.items()
        if name in found and found[name][largest] > limit
    ]


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="times that everything is asked (default 9)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 where a median is over its limit")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = measure(options.rounds)
    failed = failures(found)
    if options.json:
        print(json.dumps({"ms": found, "failed": failed}, indent=2))
        return 1 if options.check and failed else 0
    print(f"medians in ms, by finished trials of one of {STUDIES} studies")
    print(f"{'':<38}{''.join(f'{size:>10,}' for size in SIZES)}{'growth':>10}{'limit':>10}")
    for name, sizes in found.items():
        shown = "".join(f"{sizes[size]:>10.1f}" for size in SIZES)
        limit = f"{LIMITS[name]:>10.0f}" if name in LIMITS else ""
        print(f"{name:<38}{shown}{sizes[SIZES[-1]] / sizes[SIZES[0]]:>9.1f}x{limit}")
    for name in REQUESTS.keys() - found.keys():
        print(f"{name}: there is no such page")
    print("\n".join(f"FAILED {line}" for line in failed))
    return 1 if options.check and failed else 0


if __name__ == "__main__":
    sys.exit(main())
