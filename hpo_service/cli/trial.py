"""`hpo-service trial`: steer single trials."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import Reason, StorageUrl, StudyName, open_service
from hpo_service.domain.trial import Stage

app = typer.Typer(help="Stop and retry single trials.", no_args_is_help=True, rich_markup_mode=None)

Number = Annotated[int, typer.Argument(metavar="NUMBER", min=0, help="Number of the trial within its stage.")]
StageOption = Annotated[Stage, typer.Option("--stage", help="Stage the trial belongs to.")]


@app.command(epilog=examples('hpo-service trial stop mine 7 --reason "diverging"'))
def stop(
    name: StudyName,
    number: Number,
    stage: StageOption = Stage.SEARCH,
    reason: Reason = "stopped on the command line",
    storage: StorageUrl = None,
) -> None:
    """End one trial; a running one obeys at its next report or heartbeat. It counts against the budget."""
    trial = open_service(storage).studies.stop_trial(name, stage, number, reason)
    running = "will stop at its next report or heartbeat" if trial.state == "running" else f"is {trial.state}"
    typer.echo(f"trial {name}/{stage} #{number} {running}")


@app.command(epilog=examples("hpo-service trial retry mine 7"))
def retry(name: StudyName, number: Number, stage: StageOption = Stage.SEARCH, storage: StorageUrl = None) -> None:
    """Queue a failed or cancelled trial again, from the start, under a new number."""
    open_service(storage).studies.retry_trial(name, stage, number)
    typer.echo(f"trial {name}/{stage} #{number} waits to be taken up again")
