"""`hpo-service study`, the part about studies in the database: create, list, show and steer them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson, Reason, StorageUrl, StudyName, open_service, person
from hpo_service.cli.study import app
from hpo_service.cli.study_file import Quick, Replace, StudyPath, load_study, require_usable, tell_disk
from hpo_service.domain.trial.states import StudyState
from hpo_service.presentation.exports.exporters import Written, exporters
from hpo_service.presentation.exports.exporters import export as write_export

__all__ = ["app"]


Format = StrEnum("Format", {name.upper(): name for name in exporters(Written.ON_REQUEST)})  # type: ignore[misc]
"""Exports that `study export` offers."""
TABLES = Format("parquet")
LISTED = 100
"""Trials of a stage that `study show` lists where it is not told how many."""


@app.command(epilog=examples("hpo-service study create mine.yaml --storage postgresql://hpo@db/hpo"))
def create(
    file: StudyPath,
    quick: Quick = False,
    replace: Replace = False,
    storage: StorageUrl = None,
    as_json: AsJson = False,
) -> None:
    """Create the study of a file without working on it: workers anywhere may then pull its trials.

    A new study is looked at first, as by `study validate`. Creating the very same study again changes nothing. With
    --replace the corrected file takes the place of a study that failed without a result.
    """
    from hpo_service.cli.rendering.console import print_json

    spec = load_study(file, warn=not as_json)
    service = open_service(storage)
    service.upgrade()
    if not quick and (replace or service.studies.is_new(spec.name)):
        require_usable(spec, warn=not as_json)
        if not as_json:
            tell_disk(spec, service.settings)
    made = service.replacements.replace if replace else service.studies.create
    row = made(spec, by=person())
    if as_json:
        print_json({"name": row.name, "state": row.state, "storage": service.db.safe_url})
        return
    typer.echo(f"study {row.name} is {row.state}: start workers with `hpo-service worker --study {row.name}`")


@app.command(
    epilog=examples(
        "hpo-service study extend mine --trials 40",
        "hpo-service study extend mine --seeds 8",
        "hpo-service study extend mine --trials 60 --range learning_rate=1e-5:1e-2 --range lora_rank=4,8,16,32,64",
    )
)
def extend(
    name: StudyName,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Search trials in all.")] = None,
    gpu_hours: Annotated[float | None, typer.Option("--gpu-hours", help="Device hours of the search in all.")] = None,
    whole: Annotated[
        float | None, typer.Option("--study-gpu-hours", help="Device hours of all stages together, in all.")
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=2, help="Seeds of each confirmed config in all.")] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="NAME=LOW:HIGH", help="A wider range, or NAME=A,B,C with all choices."),
    ] = None,
    storage: StorageUrl = None,
    as_json: AsJson = False,
) -> None:
    """Let a study have more trials, seeds or values, also after it has finished or failed: all it measured is kept.

    More trials open the search again; verify and confirm are then planned again and run only what is missing. More
    seeds add confirmation runs. Give totals: the same command twice is told that there is nothing more to do.
    """
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.domain.studyfile.extension import Extension, read_range

    service = open_service(storage)
    wanted = Extension(trials, gpu_hours, seeds, whole, dict(read_range(text) for text in ranges or []))
    done = service.extensions.extend(name, wanted, by=person())
    if as_json:
        print_json({"name": name, "state": done.study.state, "extended": done.reason})
        return
    typer.echo(f"study {name} is {done.study.state}, {done.reason}; run its file again, or start workers for it")


@app.command("list", epilog=examples("hpo-service study list"))
def list_studies(storage: StorageUrl = None, as_json: AsJson = False) -> None:
    """List all studies with their stage and progress."""
    from hpo_service.cli.rendering.console import print_json, print_table
    from hpo_service.cli.rendering.tables import studies_table
    from hpo_service.presentation.documents.study import study_lines_document

    studies = open_service(storage).overview.lines()
    if as_json:
        print_json(study_lines_document(studies))
        return
    print_table(studies_table(studies), "no studies: `hpo-service tune MODEL DATA` and `hpo-service run FILE` make one")


@app.command(
    epilog=examples("hpo-service study show quickstart", "hpo-service study show quickstart --json | jq .stages")
)
def show(
    name: StudyName,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=0, help=f"Latest trials of a stage to list: {LISTED}, with --json all of them."),
    ] = None,
    storage: StorageUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show one study: its verdict or where it stands, its stages, their trials and the reasons of what was decided.

    Of many trials the latest are listed, with those that are open, the best one and those that were carried on. With
    --json all are there with their curves, which takes about a second for a thousand; --trials 0 is quick.
    """
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.cli.rendering.tables import has_verdict, opening_line, study_tables, verdict_line
    from hpo_service.presentation.documents.study import study_document

    reader = open_service(storage).reader
    if as_json:
        print_json(study_document(reader.snapshot(name) if trials is None else reader.outline(name, trials)))
        return
    snapshot = reader.outline(name, LISTED if trials is None else trials)
    evidence = reader.evidence(snapshot)
    for part in (opening_line(snapshot, evidence), *study_tables(snapshot)):
        console().print(part)
    if evidence.confirmed and not has_verdict(snapshot, evidence):
        console().print(verdict_line(evidence))


@app.command(
    epilog=examples(
        "hpo-service study export mine --to tables", "hpo-service study export mine --to tables --format csv"
    )
)
def export(
    name: StudyName,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the tables go; it is created.")],
    kind: Annotated[Format, typer.Option("--format", help="Parquet needs pyarrow.")] = TABLES,
    storage: StorageUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write a study as tables for pandas: trials, curves, attempts, and the score of every row of every trial."""
    from hpo_service.cli.rendering.console import print_json

    files = write_export(open_service(storage).reader.measured(name), kind.value, to)
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
    service.checks.require(name)
    if not yes:
        typer.confirm(f"Delete study {name} and all its trials from the database?", abort=True)
    service.studies.delete(name, by=person())
    typer.echo(f"study {name} is deleted")


def _steer(name: str, state: StudyState, reason: str, storage: str | None) -> None:
    row = open_service(storage).studies.steer(name, state, reason, by=person())
    typer.echo(f"study {row.name} is {row.state}")
