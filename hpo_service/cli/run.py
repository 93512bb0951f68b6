"""`hpo-service run FILE`: a whole study on this machine, from the first trial to the report."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from hpo_service.cli.console import console, print_json
from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, open_service
from hpo_service.cli.study_source import load_study
from hpo_service.domain.states import StudyState
from hpo_service.errors import ConflictError, DatabaseUnavailableError, StudyFailedError

if TYPE_CHECKING:
    from hpo_service.bootstrap import Service
    from hpo_service.cli.live import LiveView
    from hpo_service.domain.study import StudySpec
    from hpo_service.launch.local import LocalWorkers
    from hpo_service.service.snapshot import StudySnapshot

REFRESH_SECONDS = 0.5
"""How often the live view reads the database."""
DRAIN_SECONDS = 100.0
"""How long workers may take to save and leave after Ctrl-C before they are killed."""
INTERRUPTED = 130


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study file (YAML).")],
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Workers; by default one per GPU, or two on the CPU.")
    ] = None,
    storage: StorageUrl = None,
    output: OutputFolder = None,
    as_json: AsJson = False,
) -> None:
    """Run a whole study on this machine: search, verify, confirm, report.

    Ctrl-C saves the running trials and stops; the same command goes on where it stopped. A second Ctrl-C stops
    at once. Exit status: 0 finished, 130 interrupted, 1 the study failed, 2 the study file is wrong.
    """
    raise typer.Exit(run_study(open_service(storage, output), file, workers, as_json=as_json))


@dataclass
class Interrupts:
    """Counts Ctrl-C and SIGTERM while a run is on; the second one is for the impatient."""

    count: int = 0
    forward: Callable[[signal.Signals], None] = field(default=lambda _: None)

    def __enter__(self) -> Interrupts:
        self._previous = {s: signal.signal(s, self._hear) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self.forward(signal.SIGTERM)


def run_study(service: Service, file: Path, workers: int | None, *, as_json: bool) -> int:
    """Create or continue the study of a file, work on it with local workers and write its report.

    Returns:
        The exit status: 0 when the study finished, 130 when it was interrupted (run the same command again).

    Raises:
        StudyFailedError: the study ended without a result.
    """
    spec = load_study(file, warn=not as_json)
    service.upgrade()
    study = service.studies.create(spec)
    if study.state is StudyState.FAILED:
        raise StudyFailedError(
            f"study {spec.name} failed before: {study.reason}; "
            f"mend the cause, then `hpo-service study resume {spec.name}`"
        )
    if study.state in (StudyState.PAUSED, StudyState.DRAINING, StudyState.CANCELLED):
        raise ConflictError(f"study {spec.name} is {study.state}: `hpo-service study resume {spec.name}` first")
    if study.state is StudyState.ACTIVE and not _work(service, spec, workers, as_json=as_json):
        return INTERRUPTED
    return conclude(service, spec.name, as_json=as_json)


def _work(service: Service, spec: StudySpec, workers: int | None, *, as_json: bool) -> bool:
    """Run workers until the study ends; False where the user interrupted."""
    from hpo_service.cli.live import LiveView
    from hpo_service.launch.local import LocalWorkers, plan_places

    crew = LocalWorkers(spec.name, service.settings.storage, service.settings.output, plan_places(workers))
    with Interrupts() as interrupts, LiveView(console(stderr=as_json), quiet=as_json) as view:
        interrupts.forward = crew.signal
        crew.start()
        try:
            snapshot = _watch(service, spec.name, crew, view, interrupts)
        finally:
            if not crew.wait(DRAIN_SECONDS if interrupts.count < 2 else 5.0):
                view.note("workers that did not leave in time were ended; their trials are taken up again later")
    if snapshot.state.final:
        return True
    service.reaper.reap()
    if interrupts.count:
        console(stderr=True).print(
            f"Interrupted: {snapshot.current.ended} trials of {snapshot.current.stage} are done and kept. "
            "Run the same command again to go on."
        )
    return False


def _watch(service: Service, name: str, crew: LocalWorkers, view: LiveView, interrupts: Interrupts) -> StudySnapshot:
    snapshot = service.snapshot(name)
    drained = 0
    told: set[str] = set()
    while not snapshot.state.final and crew.alive:
        time.sleep(REFRESH_SECONDS)
        for line in crew.watch() if not interrupts.count else []:
            view.note(line)
        if interrupts.count > drained:
            drained = interrupts.count
            view.note(
                "stopping: running trials save a checkpoint (Ctrl-C again to stop at once)"
                if drained == 1
                else "stopping at once"
            )
        try:
            snapshot = service.snapshot(name)
        except DatabaseUnavailableError as error:
            view.note(f"{error}; the workers go on")
            continue
        view.update(snapshot)
        for activity in sorted(set(service.activities().values()) - told):
            told.add(activity)
            view.note(activity)
    return snapshot


def conclude(service: Service, name: str, *, as_json: bool) -> int:
    """Write report and best config of a study and say what was found.

    Raises:
        StudyFailedError: the study ended without a result.
    """
    from hpo_service.cli.tables import verdict_json, verdict_table
    from hpo_service.report import write_best, write_report

    snapshot = service.snapshot(name)
    evidence = service.evidence(snapshot)
    folder = service.settings.output / name
    report = write_report(snapshot, evidence, folder)
    if snapshot.state is StudyState.FAILED:
        raise StudyFailedError(f"study {name} failed: {snapshot.reason}; what was measured is in {report}")
    best = write_best(snapshot, evidence, folder)
    if as_json:
        print_json({**verdict_json(snapshot, evidence), "report": str(report), "best": str(best)})
        return 0
    out = console()
    out.print(verdict_table(evidence))
    out.print(f"Report  {report}")
    out.print(f"Best    {best}")
    return 0
