"""`hpo-service export`: the winner of a study as another tool reads it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, StudyName, open_service
from hpo_service.cli.winner.options import Epochs, telling, winner_of
from hpo_service.presentation.exports.tools import NAMES

To = StrEnum("To", {name.upper(): name for name in NAMES})  # type: ignore[misc]


def export(
    name: StudyName,
    to: Annotated[To, typer.Option("--to", help="The tool; script is a program for transformers and PEFT alone.")],
    epochs: Epochs = None,
    into: Annotated[
        Path | None, typer.Option("--into", metavar="FOLDER", help="Left out: OUTPUT/STUDY/export/TOOL.")
    ] = None,
    storage: StorageUrl = None,
    output: OutputFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write the recommended configuration for another tool, with the study's own training and validation rows.

    What the tool has no counterpart for is named in the file's header and on standard error. The test rows stay out.
    `study export` writes tables of everything measured instead.
    """
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.presentation.exports.tools.table import export_recipe
    from hpo_service.service.studies.winner.recipe import epochs_advice

    service = open_service(storage, output)
    study, recipe = winner_of(service, name, epochs)
    folder = into or service.settings.output / name / "export" / to.value
    with telling("reading the rows") as tell:
        written = export_recipe(recipe, to.value, folder, service.settings.cache, tell)
    advice = epochs_advice(study.snapshot, study.evidence)
    for line in written.left_out:
        sys.stderr.write(f"note: not carried over: {line}\n")
    if as_json:
        files = [str(file) for file in written.files]
        about = {"study": name, "trial": recipe.trial, "to": to.value, "folder": str(folder), "files": files}
        print_json({**about, "command": written.command, "left_out": written.left_out, "advice": advice or None})
        return
    for file in written.files:
        typer.echo(file)
    typer.echo(f"in {folder}: {written.command}")
    if advice:
        typer.echo(f"epochs: {advice}")
