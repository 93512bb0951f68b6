"""What can be done about a launch later, from any machine: `launch status`, `logs`, `scale`, `cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.launch.group import LaunchGroup
from hpo_service.cli.options import AsJson, Reason, StorageUrl, open_service, person

app = typer.Typer(
    cls=LaunchGroup,
    help="Have workers started on this machine or by a scheduler, and steer them later from anywhere.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
LaunchId = Annotated[str, typer.Argument(metavar="LAUNCH", help="Id of the launch, see `launch status`.")]


@app.command(epilog=examples("hpo-service launch status", "hpo-service launch status mine --json"))
def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="Of this study alone.")] = None,
    storage: StorageUrl = None,
    as_json: AsJson = False,
) -> None:
    """List launches, what their schedulers run or have in their queues, and the workers that have come of them."""
    from hpo_service.cli.rendering.console import print_json, print_table
    from hpo_service.cli.rendering.launches import launch_table
    from hpo_service.presentation.documents.launches import launches_document

    found = open_service(storage).dispatch.look(study)
    if as_json:
        print_json(launches_document(found))
        return
    print_table(launch_table(found), "no launches: `hpo-service launch -h` says how workers are launched")
    for view in found:
        if view.problem:
            typer.echo(f"launch {view.row.id}: {view.problem}", err=True)


@app.command(epilog=examples("hpo-service launch keep 3f2a91c0"))
def keep(launch: LaunchId, storage: StorageUrl = None) -> None:
    """Go on keeping a launch with --until-done, or one on this machine, whose process has ended."""
    from hpo_service.cli.launch.keeping import keep_here

    keep_here(open_service(storage), launch)


@app.command(epilog=examples("hpo-service launch logs 3f2a91c0", "hpo-service launch logs 3f2a91c0 --lines 100"))
def logs(
    launch: LaunchId,
    lines: Annotated[int, typer.Option("--lines", min=1, help="Lines of each worker.")] = 20,
    storage: StorageUrl = None,
) -> None:
    """Print the last lines that each worker of a launch wrote."""
    dispatch = open_service(storage).dispatch
    for line in dispatch.launcher_of(dispatch.launches.get(launch)).logs(lines):
        typer.echo(line)


@app.command(epilog=examples("hpo-service launch scale 3f2a91c0 32"))
def scale(
    launch: LaunchId,
    workers: Annotated[int, typer.Argument(metavar="WORKERS", min=0, help="How many are wanted.")],
    storage: StorageUrl = None,
) -> None:
    """Have more workers started, or some of them save their trials and leave."""
    done = open_service(storage).dispatch.scale(launch, workers, person())
    typer.echo(f"launch {launch}: {workers} workers wanted; {done}")


@app.command(epilog=examples('hpo-service launch cancel 3f2a91c0 --reason "the queue is needed"'))
def cancel(
    launch: LaunchId,
    now: Annotated[
        bool, typer.Option("--now", help="End workers as they are; their trials are taken up again later.")
    ] = False,
    reason: Reason = "asked for on the command line",
    storage: StorageUrl = None,
) -> None:
    """End a launch: what waits does not start, workers save their trials, give them back and leave."""
    open_service(storage).dispatch.cancel(launch, reason, person(), now=now)
    typer.echo(f"launch {launch} is cancelled")
