"""`hpo-service run FILE`: a whole study on this machine, from the first trial to the report."""

from __future__ import annotations

import contextlib
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
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import ConflictError, DatabaseUnavailableError, HpoServiceError, StudyFailedError

if TYPE_CHECKING:
    from hpo_service.bootstrap import Service
    from hpo_service.cli.live import LiveView
    from hpo_service.domain.study.spec import StudySpec
    from hpo_service.launch.local import LocalWorkers
    from hpo_service.service.studies.snapshot import StudySnapshot

REFRESH_SECONDS = 0.5
"""How often the live view reads the database."""
DRAIN_SECONDS = 100.0
"""How long workers may take to save and leave after Ctrl-C before they are killed."""
INTERRUPTED = 130


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study file (YAML).")],
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Workers; by default one per GPU; on the CPU one or two.")
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
    """Counts Ctrl-C, SIGTERM and the closing of the terminal while a run is on; the second is for the impatient."""

    count: int = 0
    forward: Callable[[signal.Signals], None] = field(default=lambda _: None)

    def __enter__(self) -> Interrupts:
        heard = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup a closed terminal means nothing
            heard.append(signal.SIGHUP)
        self._previous = {number: signal.signal(number, self._hear) for number in heard}
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
        ConflictError: somebody paused, drained or cancelled the study.
        HpoServiceError: all workers ended for good before it did.
    """
    spec = load_study(file, warn=not as_json)
    service.upgrade()
    study = service.studies.create(spec)
    _check_open(study.name, study.state, study.reason)
    if study.state is StudyState.ACTIVE:
        snapshot = _work(service, spec, workers, as_json=as_json)
        if snapshot is None:
            if as_json:
                _print_where_it_stands(service, spec.name)
            return INTERRUPTED
        if not snapshot.state.final:
            logs = service.settings.output / "logs"
            raise HpoServiceError(
                f"study {spec.name} has not ended but no worker is left: see {logs}, mend the cause, "
                "then run the same command again"
            )
    return conclude(service, spec.name, as_json=as_json)


def _print_where_it_stands(service: Service, name: str) -> None:
    """Print a study that was interrupted; nothing where the database is away."""
    from hpo_service.cli.tables import study_json

    with contextlib.suppress(DatabaseUnavailableError):
        print_json(study_json(service.snapshot(name)))


def _check_open(name: str, state: StudyState, reason: str | None) -> None:
    """Refuse a study that nobody is to work on."""
    remedy = f"`hpo-service study resume {name}`, then run the same command again"
    if state is StudyState.FAILED:
        raise StudyFailedError(f"study {name} failed before: {reason}; mend the cause, {remedy}")
    if state in (StudyState.PAUSED, StudyState.DRAINING, StudyState.CANCELLED):
        raise ConflictError(f"study {name} is {state} ({reason}): {remedy}")


def _work(service: Service, spec: StudySpec, workers: int | None, *, as_json: bool) -> StudySnapshot | None:
    """Run workers until the study ends or they do; None where the user interrupted.

    Raises:
        ConflictError: somebody paused, drained or cancelled the study meanwhile.
    """
    from hpo_service.cli.live import LiveView
    from hpo_service.domain.decide.parallel import parallel
    from hpo_service.domain.study.protocol import stages_of
    from hpo_service.launch.local import LocalWorkers, plan_places

    first = stages_of(spec)[0]
    side_by_side = parallel(spec, first, first.trials(spec)).slots > 1
    places = plan_places(workers, spec.execution.gpus_per_trial, side_by_side=side_by_side)
    crew = LocalWorkers(spec.name, service.settings.storage, service.settings.output, places)
    with Interrupts() as interrupts, LiveView(console(stderr=as_json), quiet=as_json) as view:
        interrupts.forward = crew.signal
        crew.start()
        try:
            snapshot = _watch(service, spec.name, crew, view, interrupts)
        finally:
            if not crew.wait(DRAIN_SECONDS if interrupts.count < 2 else 5.0):
                view.note("workers that did not leave in time were ended; their trials are taken up again later")
        # those that left last may have changed it after the last look
        with contextlib.suppress(DatabaseUnavailableError):
            service.reaper.reap()
            snapshot = service.snapshot(spec.name)
            view.update(snapshot)
    if interrupts.count and not snapshot.state.final:
        console(stderr=True).print(
            f"Interrupted: {snapshot.current.ended} trials of {snapshot.current.stage} are done and kept. "
            "Run the same command again to go on."
        )
        return None
    if snapshot.state is not StudyState.FAILED:
        _check_open(snapshot.name, snapshot.state, snapshot.reason)
    return snapshot


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
    from hpo_service.presentation.exports import write_best
    from hpo_service.presentation.report import write_report

    snapshot = service.snapshot(name)
    evidence = service.evidence(snapshot)
    folder = service.settings.output / name
    report = write_report(snapshot, evidence, folder)
    if snapshot.state is StudyState.FAILED:
        raise StudyFailedError(
            f"study {name} failed: {snapshot.reason}; mend the cause, then `hpo-service study resume {name}` "
            f"and run again; what was measured is in {report}"
        )
    best = write_best(snapshot, evidence, folder)
    if as_json:
        print_json({**verdict_json(snapshot, evidence), "report": str(report), "best": str(best)})
        return 0
    out = console()
    out.print(verdict_table(evidence))
    out.print(f"Report  {report}")
    out.print(f"Best    {best}")
    return 0
