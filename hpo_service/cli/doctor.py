"""`hpo-service doctor`: is this machine ready? Versions, devices, database, write access, each with its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, open_service
from hpo_service.cli.study_file import load_study

MARKS = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "error": "[red]error  [/]"}

StudyToRun = Annotated[
    Path | None, typer.Option("--study", metavar="FILE", help="Could the study of this file run on this machine?")
]


def doctor(
    study: StudyToRun = None, storage: StorageUrl = None, output: OutputFolder = None, as_json: AsJson = False
) -> None:
    """Check this machine: versions, devices, database, write access. Exit status 1 where something is broken.

    With --study also all that this study needs of a node: libraries, GPUs and their free memory, how fast the database
    answers, whether the output folder is shared and renames whole, whether its rows and models are there or would be
    given out by the hub, and bitsandbytes. Exit status 1 where it could not run.
    """
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.launch.preflight import preflight
    from hpo_service.launch.readiness import examine

    spec = None if study is None else load_study(study, warn=not as_json)
    machine = open_service(storage, output).machine
    findings = examine(machine) if spec is None else preflight(machine, spec)
    if as_json:
        print_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            console().print(f"{MARKS[finding.level]} {finding.what}: ", end="")
            typer.echo(finding.detail)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)
