"""`hpo-service doctor`: is this machine ready? Versions, devices, database, write access, each with its remedy."""

from __future__ import annotations

import typer

from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, open_service

MARKS = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "error": "[red]error  [/]"}


def doctor(storage: StorageUrl = None, output: OutputFolder = None, as_json: AsJson = False) -> None:
    """Check this machine: versions, devices, database, write access. Exit status 1 where something is broken."""
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.launch.readiness import examine

    findings = examine(open_service(storage, output).machine)
    if as_json:
        print_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            console().print(f"{MARKS[finding.level]} {finding.what}: ", end="")
            typer.echo(finding.detail)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)
