"""`hpo-service schedule`: what learning-rate schedules look like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson
from hpo_service.cli.study_file import load_study

app = typer.Typer(help="Look at learning-rate schedules.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def schedule() -> None:
    """Look at learning-rate schedules."""


@app.command(
    epilog=examples(
        "hpo-service schedule plot schedules.png",
        "hpo-service schedule plot mine.svg --study mine.yaml",
        "hpo-service schedule plot all.html --steps 1000 --warmup 0.1 --json",
    )
)
def plot(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="The .png, .svg or .html file to write.")],
    study: Annotated[
        Path | None, typer.Option("--study", metavar="FILE", help="Draw those that this study's trials may have.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=2, max=100_000, help="Optimizer steps of the run.")] = 200,
    warmup: Annotated[float | None, typer.Option("--warmup", min=0.0, max=0.99, help="warmup_ratio.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the learning rate of every schedule over the steps of a run, side by side, or those of a study.

    With --json the rates of every step are printed too.
    """
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.domain.advise.schedules import SHAPES, rates
    from hpo_service.domain.study.hyperparameters import Hyperparameters
    from hpo_service.presentation.advice.schedules import draw_schedules, schedules_document

    hyper, names, title = Hyperparameters(), list(SHAPES), "Learning-rate schedules"
    if study is not None:
        spec = load_study(study, warn=not as_json)
        hyper, names = spec.training.hyperparameters(), list(dict.fromkeys(map(str, spec.values_of("scheduler"))))
        title = f"Learning-rate schedules of study {spec.name}"
    changed = {} if warmup is None else {"warmup_ratio": warmup}
    drawn = {name: rates(hyper.with_values({"scheduler": name, **changed}), steps) for name in names}
    draw_schedules(drawn, title, picture)
    if as_json:
        print_json(schedules_document(drawn))
        return
    typer.echo(f"{', '.join(names)}: drawn in {picture}")
