"""The card of a full run: what was trained, on which rows, and what the test rows said after each epoch."""

from __future__ import annotations

from hpo_service.service.studies.winner.final_run import FinalRun
from hpo_service.service.studies.winner.recipe import Recipe

NAME = "README.md"


def final_card(recipe: Recipe, run: FinalRun) -> str:
    """Return the card as Markdown."""
    hyper = recipe.training
    values = hyper.hyperparameters().model_dump(mode="json", exclude_none=True)
    rows = [f"| {fraction * hyper.epochs:g} | {value:.4f} |" for fraction, value in run.curve]
    before = ""
    if recipe.test is not None:
        before = (
            f" In the study, with training.epochs {recipe.searched_epochs} and without the validation rows, its runs "
            f"reached {recipe.test:.4f} on average."
        )
    parts = [
        f"# {recipe.study}, trained in full",
        f"`{recipe.base}`, {hyper.epochs} epochs over {run.rows} rows: the study's training and validation rows. "
        f"{recipe.header()[0]}",
        f"The study's verdict: {recipe.verdict}.",
        f"Test loss after the last epoch: {run.test:.4f} nats a token, on rows that were held out.{before}",
        "\n".join(["| epoch | test loss |", "|---|---|", *rows]),
        "\n".join(f"* `{name}`: {value}" for name, value in values.items() if hyper.reads(name)),
        f"```console\n$ hpo-service train {recipe.study} --epochs {hyper.epochs}\n```",
        f"Made with: {run.versions}.",
    ]
    return "\n\n".join(parts) + "\n"


def write_final_card(recipe: Recipe, run: FinalRun) -> None:
    """Write the card beside the weights, and give these the mode of an ordinary file."""
    card = run.folder / NAME
    card.write_text(final_card(recipe, run), "utf-8")
    mode = card.stat().st_mode
    for file in run.folder.iterdir():
        if file.is_file():
            file.chmod(mode)
