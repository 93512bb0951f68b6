"""`hpo-service study`, the part about studies in the database: create, list, show and steer them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson, Reason, StorageUrl, StudyName, open_service
from hpo_service.cli.study import StudyPath, app
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import UnreadableStudyError

__all__ = ["app"]


class TableKind(StrEnum):
    """What tables are written as."""

    PARQUET = "parquet"
    CSV = "csv"


@app.command(epilog=examples("hpo-service study create mine.yaml --storage postgresql://hpo@db/hpo"))
def create(file: StudyPath, storage: StorageUrl = None, as_json: AsJson = False) -> None:
    """Create the study of a file without working on it: workers anywhere may then pull its trials.

    Creating the very same study again changes nothing.
    """
    from hpo_service.cli.console import print_json
    from hpo_service.cli.study_source import load_study

    spec = load_study(file, warn=not as_json)
    service = open_service(storage)
    service.upgrade()
    row = service.studies.create(spec)
    if as_json:
        print_json({"name": row.name, "state": row.state, "storage": service.db.safe_url})
        return
    typer.echo(f"study {row.name} is {row.state}: start workers with `hpo-service worker --study {row.name}`")


@app.command("list", epilog=examples("hpo-service study list"))
def list_studies(storage: StorageUrl = None, as_json: AsJson = False) -> None:
    """List all studies with their stage and progress."""
    from hpo_service.cli.console import console, print_json
    from hpo_service.cli.tables import studies_json, studies_table

    service = open_service(storage)
    with service.db.transaction():
        names = [row.name for row in service.study_rows.list()]
    snapshots, unreadable = [], {}
    for name in names:
        try:
            snapshots.append(service.snapshot(name))
        except UnreadableStudyError as error:
            unreadable[name] = str(error)
    if as_json:
        print_json(studies_json(snapshots, unreadable))
        return
    console().print(studies_table(snapshots, unreadable))


@app.command(
    epilog=examples("hpo-service study show quickstart", "hpo-service study show quickstart --json | jq .stages")
)
def show(name: StudyName, storage: StorageUrl = None, as_json: AsJson = False) -> None:
    """Show one study: its stages, every trial and the reasons of what was decided."""
    from hpo_service.cli.console import console, print_json
    from hpo_service.cli.tables import study_json, study_tables

    snapshot = open_service(storage).snapshot(name)
    if as_json:
        print_json(study_json(snapshot))
        return
    for part in study_tables(snapshot):
        console().print(part)


@app.command(
    epilog=examples(
        "hpo-service study export mine --to tables", "hpo-service study export mine --to tables --format csv"
    )
)
def export(
    name: StudyName,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the tables go; it is created.")],
    kind: Annotated[TableKind, typer.Option("--format", help="Parquet needs pyarrow.")] = TableKind.PARQUET,
    storage: StorageUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write a study as tables for pandas: trials, curves, attempts, and the score of every row of every trial."""
    from hpo_service.cli.console import print_json
    from hpo_service.presentation.exports import write_tables

    service = open_service(storage)
    snapshot = service.snapshot(name)
    files = service.export(snapshot, lambda attempts, scores: write_tables(snapshot, attempts, scores, to, kind.value))
    if as_json:
        print_json({"study": name, "files": [str(file) for file in files]})
        return
    for file in files:
        typer.echo(file)


@app.command(epilog=examples('hpo-service study pause mine --reason "the nodes are needed elsewhere"'))
def pause(name: StudyName, reason: Reason = "paused on the command line", storage: StorageUrl = None) -> None:
    """Give all running trials back with a checkpoint and hand out no more until `resume`."""
    _steer(name, StudyState.PAUSED, reason, storage)


@app.command(epilog=examples("hpo-service study resume mine"))
def resume(name: StudyName, reason: Reason = "resumed on the command line", storage: StorageUrl = None) -> None:
    """Go on with a paused, draining, failed or cancelled study; trials for which it failed are tried again."""
    _steer(name, StudyState.ACTIVE, reason, storage)


@app.command(epilog=examples("hpo-service study drain mine"))
def drain(name: StudyName, reason: Reason = "drained on the command line", storage: StorageUrl = None) -> None:
    """Let running trials end, but hand out no more until `resume`."""
    _steer(name, StudyState.DRAINING, reason, storage)


@app.command(epilog=examples('hpo-service study cancel mine --reason "wrong data"'))
def cancel(name: StudyName, reason: Reason = "cancelled on the command line", storage: StorageUrl = None) -> None:
    """End a study: running trials stop at their next report or heartbeat; what was measured is kept."""
    _steer(name, StudyState.CANCELLED, reason, storage)


@app.command(epilog=examples("hpo-service study delete mine --yes"))
def delete(
    name: StudyName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: StorageUrl = None,
) -> None:
    """Delete a study and everything measured in it from the database; files of its trials stay."""
    service = open_service(storage)
    service.require(name)
    if not yes:
        typer.confirm(f"Delete study {name} and all its trials from the database?", abort=True)
    service.studies.delete(name)
    typer.echo(f"study {name} is deleted")


def _steer(name: str, state: StudyState, reason: str, storage: str | None) -> None:
    row = open_service(storage).studies.steer(name, state, reason)
    typer.echo(f"study {row.name} is {row.state}")
