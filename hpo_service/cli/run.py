"""`hpo-service run FILE`: a whole study on this machine, from the first trial to the report."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from hpo_service.cli.options import AsJson, OutputFolder, Quiet, StorageUrl, Telling, Verbose, open_service, person
from hpo_service.cli.report import print_conclusion
from hpo_service.cli.study_file import Quick, Replace, StudyPath, load_study, require_usable, tell_disk
from hpo_service.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from hpo_service.bootstrap import Service
    from hpo_service.service.studies.snapshot import StudySnapshot

INTERRUPTED = 130

Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Workers; by default one per GPU; on the CPU one or two.")
]


def run(
    file: StudyPath,
    workers: Workers = None,
    quick: Quick = False,
    replace: Replace = False,
    storage: StorageUrl = None,
    output: OutputFolder = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole study on this machine: search, verify, confirm, report.

    A new study is looked at first, as by `study validate`: where its rows or models would fail every trial, none is
    started.

    Ctrl-C saves the running trials and stops; the same command goes on where it stopped. A second Ctrl-C stops
    at once. Exit status: 0 finished, 130 interrupted, 1 the study failed, 2 the study file, or its rows or models,
    are wrong.
    """
    telling = Telling(as_json, quiet, verbose)
    service = open_service(storage, output)
    if replace:
        service.upgrade()
        service.replacements.replace(load_study(file, warn=False), by=person())
    raise typer.Exit(run_study(service, file, workers, quick=quick, telling=telling))


@dataclass
class Interrupts:
    """Passes on Ctrl-C, SIGTERM and the closing of the terminal while it is entered."""

    told: Callable[[], None]

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
        self.told()


def run_study(service: Service, file: Path, workers: int | None, *, quick: bool, telling: Telling) -> int:
    """Create or continue the study of a file, work on it with local workers and write its report.

    Returns:
        The exit status: 0 when the study finished, 130 when it was interrupted (run the same command again).

    Raises:
        UnusableInputsError: every trial of the new study would fail with its rows or models.
        StudyFailedError: the study ended without a result.
        ConflictError: somebody paused, drained or cancelled the study.
        HpoServiceError: all workers ended for good before it did.
    """
    from hpo_service.cli.rendering.console import console
    from hpo_service.cli.rendering.live import LiveView

    spec = load_study(file, warn=telling.progress)
    service.upgrade()
    if not quick and service.studies.is_new(spec.name):
        require_usable(spec, warn=telling.progress, tell=telling.progress)
        if telling.progress:
            tell_disk(spec, service.settings)
    if not service.studies.take_up(spec, by=person()).state.final:
        run = service.run(spec, workers, verbose=telling.verbose)
        view = LiveView(console(stderr=telling.as_json), quiet=not telling.progress)
        with Interrupts(run.interrupt), view:
            snapshot = run.work(view)
        if not snapshot.state.final:
            _print_interrupted(service, snapshot, as_json=telling.as_json)
            return INTERRUPTED
    print_conclusion(service, spec.name, as_json=telling.as_json, quiet=telling.quiet)
    return 0


def _print_interrupted(service: Service, snapshot: StudySnapshot, *, as_json: bool) -> None:
    """Say where a study was interrupted, and with --json print it as it is; nothing where the database is away."""
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.presentation.documents.study import study_document

    console(stderr=True).print(
        f"Interrupted: {snapshot.current.ended} trials of {snapshot.current.stage} are done and kept. "
        "Run the same command again to go on."
    )
    if as_json:
        with contextlib.suppress(DatabaseUnavailableError):
            print_json(study_document(service.reader.snapshot(snapshot.name)))
