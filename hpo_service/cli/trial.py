"""`hpo-service trial`: show and steer single trials."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson, OutputFolder, Reason, StorageUrl, StudyName, open_service, person
from hpo_service.domain.study.protocol import STAGES
from hpo_service.errors import UsageError

app = typer.Typer(help="Show, stop and retry single trials.", no_args_is_help=True, rich_markup_mode=None)

Number = Annotated[int, typer.Argument(metavar="NUMBER", min=0, help="Number of the trial within its stage.")]
FIRST = next(iter(STAGES))


def known_stage(name: str) -> str:
    """Return the name of a stage as it is.

    Raises:
        BadParameter: there is no such stage.
    """
    if name not in STAGES:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, STAGES))}.")
    return name


StageOption = Annotated[
    str,
    typer.Option(
        "--stage",
        parser=known_stage,
        metavar=f"<{'|'.join(STAGES)}>",
        autocompletion=lambda: list(STAGES),
        help="Stage the trial belongs to.",
    ),
]


@app.command(epilog=examples("hpo-service trial show mine search/7", "hpo-service trial show mine confirm/0 --json"))
def show(
    name: StudyName,
    trial: Annotated[
        str, typer.Argument(metavar="STAGE/NUMBER", help="The trial, e.g. confirm/2; a number alone is of search.")
    ],
    storage: StorageUrl = None,
    output: OutputFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show everything that is kept of one trial: parameters, curve, attempts, facts and files."""
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.cli.rendering.trial import trial_parts
    from hpo_service.presentation.documents.trial import trial_document

    service = open_service(storage, output)
    record = service.reader.record(name, *place_of(trial))
    folders = record.folders(service.settings.output)
    if as_json:
        print_json(trial_document(record, folders))
        return
    for part in trial_parts(record, folders):
        console().print(part)


def place_of(trial: str) -> tuple[str, int]:
    """Read `verify/3`, or `3` for the search's.

    Raises:
        UsageError: it reads as neither.
    """
    stage, _, number = trial.rpartition("/")
    try:
        return known_stage(stage or FIRST), int(number.removeprefix("#"))
    except (typer.BadParameter, ValueError):
        stages = ", ".join(STAGES)
        raise UsageError(f"{trial} names no trial: write STAGE/NUMBER, e.g. confirm/2; stages are {stages}") from None


@app.command(epilog=examples('hpo-service trial stop mine 7 --reason "diverging"'))
def stop(
    name: StudyName,
    number: Number,
    stage: StageOption = FIRST,
    reason: Reason = "stopped on the command line",
    storage: StorageUrl = None,
) -> None:
    """End one trial; a running one obeys at its next report or heartbeat. It counts against the budget."""
    trial = open_service(storage).studies.stop_trial(name, stage, number, reason, by=person())
    running = "will stop at its next report or heartbeat" if trial.state == "running" else f"is {trial.state}"
    typer.echo(f"trial {name}/{stage} #{number} {running}")


@app.command(epilog=examples("hpo-service trial retry mine 7"))
def retry(name: StudyName, number: Number, stage: StageOption = FIRST, storage: StorageUrl = None) -> None:
    """Queue a failed or cancelled trial again, from the start, under a new number."""
    open_service(storage).studies.retry_trial(name, stage, number, by=person())
    typer.echo(f"trial {name}/{stage} #{number} waits to be taken up again")
