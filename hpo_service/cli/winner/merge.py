"""`hpo-service merge`: the winner's adapter merged into its base."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, StudyName, open_service
from hpo_service.cli.winner.options import Weights, telling, weights_of, winner_of


def merge(
    name: StudyName,
    weights: Weights = None,
    into: Annotated[
        Path | None, typer.Option("--into", metavar="FOLDER", help="Left out: OUTPUT/STUDY/merged.")
    ] = None,
    storage: StorageUrl = None,
    output: OutputFolder = None,
    as_json: AsJson = False,
) -> None:
    """Add the winner's adapter to the weights of its base, and write a whole model that needs no PEFT.

    The adapter is that of best/, or of a folder that `train` has written. It takes the memory of the whole base. An
    adapter of a base in 4 or 8 bits is merged into the base as published; outputs then differ slightly.
    """
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.service.studies.winner.merging import merge as merge_weights

    service = open_service(storage, output)
    study, recipe = winner_of(service, name)
    adapter = weights_of(study, weights, service.settings.output)
    folder = (into or service.settings.output / name / "merged").absolute()
    with telling("starting") as tell:
        merged = merge_weights(recipe, adapter, folder, service.settings.cache, tell)
    if merged.remark:
        sys.stderr.write(f"note: {merged.remark}\n")
    if as_json:
        about = {"study": name, "adapter": str(adapter), "folder": str(folder), "parameters": merged.parameters}
        print_json({**about, "dtype": merged.dtype, "remark": merged.remark or None})
        return
    typer.echo(f"{merged.parameters / 1e6:.1f} million weights in {merged.dtype}: {folder}")
