"""`hpo-service init`: a study file for a model and rows, every choice with its reason."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hpo_service.cli.drafts.wishes import (
    Budget,
    File,
    Gpu,
    Keys,
    Method,
    Name,
    Only,
    Overwrite,
    Target,
    read_wishes,
    write_study,
)
from hpo_service.cli.options import AsJson
from hpo_service.errors import UsageError


def init(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Hub name, folder or builtin: name of the model.")
    ] = None,
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="The rows: file, folder, hub data set or builtin: name.")
    ] = None,
    target: Target = None,
    name: Name = None,
    method: Method = None,
    only: Only = None,
    budget: Budget = None,
    gpu: Gpu = None,
    keys: Keys = None,
    file: File = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a study file for a model and rows; on a terminal it asks for what is not given.

    Rows, the model's size and the GPU's memory are looked at, and each choice that follows stands in the file with its
    reason. Nothing is trained.
    """
    from hpo_service.cli.rendering.console import print_json

    if model is None or data is None:
        model, data, target, budget = _ask(model, data, target, budget)
    asked = read_wishes(model, data, target, name, method, only, budget, keys, gpu, file)
    path, text = asked.path, write_study(asked, gpu, overwrite=overwrite, quiet=as_json)
    if as_json:
        print_json({"file": str(path), "text": text})
        return
    sys.stdout.write(text)
    typer.echo(f"\n{path} is written: `hpo-service study validate {path}` says what it will do, `run` runs it")


def _ask(
    model: str | None, data: str | None, target: str | None, budget: str | None
) -> tuple[str, str, str | None, str | None]:
    if not sys.stdin.isatty():
        raise UsageError("name the model and the rows, as in `hpo-service init Qwen/Qwen2.5-0.5B rows.jsonl`")
    model = model or typer.prompt("Model to search on (hub name or folder)")
    data = data or typer.prompt("Rows (file, folder or hub data set)")
    target = target or typer.prompt(
        "Larger model the configuration is for (Enter: none)", default="", show_default=False
    )
    budget = budget or typer.prompt("Budget, as 20h or 40 trials (Enter: 20 trials)", default="", show_default=False)
    return str(model), str(data), target or None, budget or None


def _optional(question: str) -> str:
    return str(typer.prompt(question, default="", show_default=False))
