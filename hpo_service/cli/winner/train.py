"""`hpo-service train`: the winner of a study trained in full on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, StudyName, open_service
from hpo_service.cli.winner.options import Epochs, telling, winner_of


def train(
    name: StudyName,
    epochs: Epochs = None,
    into: Annotated[Path | None, typer.Option("--into", metavar="FOLDER", help="Left out: OUTPUT/STUDY/final.")] = None,
    storage: StorageUrl = None,
    output: OutputFolder = None,
    as_json: AsJson = False,
) -> None:
    """Train the recommended configuration in full, on the training and validation rows, on one device of this machine.

    The schedule is spread over all epochs, the learning rate is the one found. The test rows stay held out and are
    scored after each epoch; nothing depends on them. Broken off, the same command goes on from the last epoch. The
    weights lie in PEFT format (a model trained whole in transformers') with the tokenizer.
    """
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.presentation.exports.final_card import write_final_card
    from hpo_service.service.studies.winner.final_run import train_in_full
    from hpo_service.service.studies.winner.recipe import epochs_advice

    service = open_service(storage, output)
    study, recipe = winner_of(service, name, epochs)
    folder = (into or service.settings.output / name / "final").absolute()
    advice = epochs_advice(study.snapshot, study.evidence)
    if advice and not as_json:
        typer.echo(f"epochs: {advice}")
    with telling("starting the trainer") as tell:
        run = train_in_full(recipe, folder, service.settings.cache, tell)
    write_final_card(recipe, run)
    if as_json:
        about = {**asdict(run), "folder": str(run.folder), "study": name, "trial": recipe.trial}
        print_json({**about, "epochs": recipe.training.epochs, "searched_test": recipe.test, "advice": advice or None})
        return
    before = "" if recipe.test is None else f" ({recipe.test:.4f} in the study, epochs: {recipe.searched_epochs})"
    typer.echo(f"test loss {run.test:.4f}{before}; trained on {run.rows} rows in {run.steps} steps")
    typer.echo(str(run.folder))
