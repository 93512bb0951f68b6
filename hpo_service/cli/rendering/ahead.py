"""What a study will do, what it will cost and what it can prove, on the screen before any trial runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hpo_service.cli.options import open_service
from hpo_service.cli.study_file import MARKS, looked_at
from hpo_service.errors import HpoServiceError
from hpo_service.settings import Settings

if TYPE_CHECKING:
    from hpo_service.domain.study.spec import StudySpec
    from hpo_service.service.studies.ahead.outlay import Outlay
    from hpo_service.service.studies.ahead.sensitivity import Sensitivity


def print_ahead(file: Path, storage: str | None, *, quick: bool = False, timed: bool = False) -> int:
    """Print what the study of a file will do, and return how many warnings there are.

    Args:
        file: the study file.
        storage: URL of the database, whose earlier studies tell what this one costs.
        quick: look neither at rows and models nor at the database.
        timed: train a few steps here, to tell what a study takes of which no earlier one does.

    Raises:
        StudyFileError: the file cannot be read or is wrong.
        UnusableInputsError: every trial would fail with these rows or models; what the study would do is printed first.
    """
    from hpo_service.cli.rendering.console import console
    from hpo_service.cli.rendering.pages import summary_page
    from hpo_service.presentation.sizing.disk import disk_lines
    from hpo_service.presentation.study_summary import cost_ahead, outside_remarks
    from hpo_service.service.studies.first_look import refuse_unusable
    from hpo_service.service.studies.study_file import read_study_file

    study = read_study_file(file)
    found = [] if quick else looked_at(study.spec)
    sight, outlays = (None, []) if quick else foreseen(study.spec, storage)
    console().print(summary_page(study.spec))
    # of what would fail no step is trained
    if timed and study.spec.model is not None and not any(each.level == "error" for each in found):
        outlays = _timed(study.spec, outlays)
    if not quick:
        typer.echo(f"cost: {cost_ahead(outlays, study.spec.budget.price_per_hour)}")
    if sight is not None:
        typer.echo(f"confirm: {sight.sentence()}")
    for remark in outside_remarks(study.spec):
        typer.echo(f"note: {remark}")
    settings = Settings.read()
    for line in [] if quick else disk_lines(study.spec, settings.output, settings.cache, settings.store):
        typer.echo(line)
    doubts = [f"warning: {file}:{warning}" for warning in study.warnings]
    doubts += [f"{MARKS[each.level]}: {each}" for each in found if each.level != "error"]
    for line in doubts:
        typer.echo(line)
    refuse_unusable(found)
    return sum(line.startswith("warning") for line in doubts)


def _timed(spec: StudySpec, outlays: list[Outlay]) -> list[Outlay]:
    from rich.markup import escape

    from hpo_service.cli.rendering.console import console
    from hpo_service.service.advice.timed import time_here, timed_outlays

    if outlays and all(outlay.hours is not None for outlay in outlays):
        return outlays
    with console(stderr=True).status("timing a few steps") as status:
        timed = time_here(Settings.read().cache, lambda line: status.update(f"timing a few steps: {escape(line)}"))
        return timed_outlays(spec, outlays, timed)


def foreseen(spec: StudySpec, storage: str | None) -> tuple[Sensitivity | None, list[Outlay]]:
    """Ask the database, where there is one, what confirm can see and what stages take; one that is away is silent."""
    from hpo_service.service.studies.ahead.sensitivity import assumed, compares

    if Settings.read(storage=storage).may_have_database:
        with suppress(HpoServiceError):
            foresight = open_service(storage).foresight
            return foresight.sensitivity(spec), foresight.outlays(spec)
    return (assumed(spec) if compares(spec) else None), []
