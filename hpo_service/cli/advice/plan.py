"""`hpo-service plan`: how a batch is cut for a GPU, before anything runs."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo_service.cli.advice.recommend import Gpu, Gpus, Length, ModelName, this_gpu
from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson
from hpo_service.domain.study.methods import METHODS
from hpo_service.errors import UsageError
from hpo_service.settings import Settings

app = typer.Typer(help="Plan a run from a model's sizes.", no_args_is_help=True, rich_markup_mode=None)
LARGEST = 64
"""Rows of a forward pass beyond which nothing is gained."""


@app.callback()
def plan() -> None:
    """Plan a run from a model's sizes."""


@app.command(
    epilog=examples(
        "hpo-service plan batch models/llama-8b --batch 64 --gpu 24 --method qlora",
        "hpo-service plan batch Qwen/Qwen2.5-7B --batch 128 --gpus 4 --gpu 80 --lr 2e-4 --lr-batch 16 --json",
    )
)
def batch(
    model: ModelName,
    wanted: Annotated[int, typer.Option("--batch", min=1, help="Effective batch: rows per optimizer step.")],
    gpu: Gpu = None,
    gpus: Gpus = 1,
    length: Length = 512,
    method: Annotated[
        str,
        typer.Option(
            "--method", metavar=f"<{'|'.join(METHODS)}>", autocompletion=lambda: list(METHODS), help="What is trained."
        ),
    ] = "lora",
    rank: Annotated[int, typer.Option("--rank", min=1, max=1024, help="Rank of the adapters.")] = 16,
    rate: Annotated[float | None, typer.Option("--lr", min=0.0, help="A learning rate that is good ...")] = None,
    rate_batch: Annotated[int, typer.Option("--lr-batch", min=1, help="... at this effective batch.")] = 16,
    as_json: AsJson = False,
) -> None:
    """Cut an effective batch into micro-batches and accumulation that fit a GPU; say which learning rate it wants.

    By the memory estimate of `hpo-service memory`, and the square-root rule for the rate (--lr at --lr-batch).
    """
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.domain.advise.batch_plan import plan_batch
    from hpo_service.domain.memory.demand import Demand
    from hpo_service.domain.study.sections.training import TrainingSpec
    from hpo_service.presentation.advice.tables import batch_document, batch_lines
    from hpo_service.service.advice.model import shape_of

    usable = [name for name, each in METHODS.items() if each.base != "new"]
    if method not in usable:
        raise UsageError(f"--method {method}: choose one that trains on a model that is there: {', '.join(usable)}")
    shape = shape_of(model, Settings.read().cache)
    training = TrainingSpec(method=method, lora_rank=rank, effective_batch=wanted, micro_batch=LARGEST)
    found = plan_batch(Demand.of(training, shape, length=length, ranks=gpus), wanted, gpus, gpu or this_gpu())
    given = (rate, rate_batch) if rate else None
    if as_json:
        print_json(batch_document(found, given, wanted))
        return
    for line in batch_lines(found, given, wanted):
        typer.echo(line)
