"""`hpo-service recommend` and `lora-params`: settings to start from, and what adapters cost, from a model's sizes."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo_service.cli.options import AsJson
from hpo_service.domain.advise.guides import TASKS
from hpo_service.settings import Settings

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="Local folder, or the name of a model in the hub's cache.")
]
Gpu = Annotated[
    float | None, typer.Option("--gpu", metavar="GB", min=0.1, help="Memory of a GPU in GB; else this machine's.")
]
Gpus = Annotated[int, typer.Option("--gpus", min=1, help="GPUs that share a batch.")]
Length = Annotated[int, typer.Option("--length", min=8, help="Tokens of the longest row.")]


def known_task(name: str) -> str:
    """Return the name of a task as it is.

    Raises:
        BadParameter: there is no such task.
    """
    if name not in TASKS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, TASKS))}.")
    return name


def recommend(
    model: ModelName,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Training rows.")],
    length: Length = 512,
    task: Annotated[
        str,
        typer.Option(
            "--task",
            parser=known_task,
            metavar=f"<{'|'.join(TASKS)}>",
            autocompletion=lambda: list(TASKS),
            help="; ".join(f"{name}: {each.summary}" for name, each in TASKS.items()),
        ),
    ] = "general",
    gpu: Gpu = None,
    gpus: Gpus = 1,
    as_json: AsJson = False,
) -> None:
    """Recommend the settings of a run, each with its reason and source: where to start before anything is measured.

    From the model's sizes (its config.json; nothing is loaded), the GPU's memory, the rows and the task. A search, and
    `lr-range` before it, know better.
    """
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.cli.rendering.pages import text_table
    from hpo_service.domain.advise.recommendation import Situation
    from hpo_service.domain.advise.recommendation import recommend as found_by
    from hpo_service.presentation.advice.tables import recommendation_document, recommendation_table
    from hpo_service.service.advice.model import shape_of

    shape = shape_of(model, Settings.read().cache)
    found = found_by(Situation(shape, rows, length, task, gpu or this_gpu(), gpus))
    if as_json:
        print_json(recommendation_document(model, found))
        return
    console().print(text_table(recommendation_table(found), right=False))
    typer.echo("As the training section of a study file:\n\ntraining:")
    for name, value in found.training.items():
        typer.echo(f"  {name}: {value}")


def lora_params(
    model: ModelName,
    rank: Annotated[
        list[int] | None, typer.Option("--rank", min=1, max=1024, help="Rank; may be given several times.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count the weights that LoRA trains on a model: by module, rank and preset, and as a share of the base.

    From its config.json; nothing is loaded.
    """
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.cli.rendering.pages import text_table
    from hpo_service.domain.advise.lora_parameters import USUAL_RANKS, LoraParameters
    from hpo_service.domain.study.methods import TARGETS
    from hpo_service.presentation.advice.tables import lora_document, lora_tables
    from hpo_service.service.advice.model import shape_of

    ranks = sorted(set(rank or USUAL_RANKS))
    found = LoraParameters.of(shape_of(model, Settings.read().cache), ranks, list(TARGETS))
    if as_json:
        print_json(lora_document(model, found))
        return
    typer.echo(f"{model}: {found.base / 1e6:,.1f}M weights")
    for table in lora_tables(found):
        console().print(text_table(table))


def this_gpu() -> float | None:
    """Memory of the smallest GPU of this machine, in GB; None where there is none."""
    from hpo_service.launch.devices import gpu_sizes

    return min(gpu_sizes(), default=None)
