"""`hpo-service lr-range`: which learning rate the real model wants on the real rows, in a minute of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from hpo_service.cli.options import AsJson
from hpo_service.cli.study_file import load_study
from hpo_service.domain.study.methods import METHODS
from hpo_service.errors import UsageError
from hpo_service.settings import Settings

if TYPE_CHECKING:
    from hpo_service.domain.trial.config import TrialConfig

T = TypeVar("T")
USUAL = "usual"
USUAL_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
"""Rates of the discrete sweep that guides give."""

Model = Annotated[
    str | None, typer.Argument(metavar="MODEL", help="Hub name, local folder, or builtin: name of the base.")
]
Data = Annotated[str | None, typer.Argument(metavar="DATA", help="Its rows: file, folder, hub data set, or builtin:.")]
OfStudy = Annotated[
    Path | None, typer.Option("--study", metavar="FILE", help="Take base, rows and fixed settings of a study file.")
]
MethodName = Annotated[
    str,
    typer.Option(
        "--method", metavar=f"<{'|'.join(METHODS)}>", autocompletion=lambda: list(METHODS), help="What is trained."
    ),
]
Rank = Annotated[int, typer.Option("--rank", min=1, max=1024, help="Rank of the adapters; alpha is the same.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Effective batch: rows per optimizer step.")]
Length = Annotated[int, typer.Option("--max-length", min=8, help="Tokens per row.")]
Steps = Annotated[int, typer.Option("--steps", min=20, help="Optimizer steps: of the test, or at each rate.")]
Low = Annotated[float, typer.Option("--low", min=1e-12, help="Learning rate of the first step.")]
High = Annotated[float, typer.Option("--high", max=10.0, help="Learning rate that the last step would have.")]
Sweep = Annotated[
    str | None,
    typer.Option(
        "--sweep",
        metavar="RATES",
        autocompletion=lambda: [USUAL],
        help="Train at each of these rates instead, e.g. 1e-4,3e-4; `usual` is 1e-5 to 1e-3.",
    ),
]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw it: a .png, .svg or .html file.")]


def lr_range(
    model: Model = None,
    data: Data = None,
    study: OfStudy = None,
    method: MethodName = "lora",
    rank: Rank = 16,
    batch: Batch = 16,
    max_length: Length = 512,
    steps: Steps = 120,
    low: Low = 1e-6,
    high: High = 1.0,
    sweep: Sweep = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Find a learning rate by a range test on the real model and rows.

    The rate rises from --low to --high over --steps optimizer steps, until the smoothed loss diverges; the rate that
    is suggested lies halfway between where it falls fastest and where it is lowest. With --sweep each rate is trained
    at by itself, always from the same start, and the lowest validation loss decides. Nothing is kept.
    """
    from hpo_service.presentation.advice.picture import check_ending

    if plot is not None:
        check_ending(plot)
    if low >= high:
        raise UsageError(f"--low {low:g} must lie below --high {high:g}")
    rates = None if sweep is None else _rates(sweep)
    config = _config(model, data, study, method, rank, batch, max_length, warn=not as_json)
    name = config.model_name or ""
    if rates is not None:
        _sweep(config, name, rates, steps, plot, as_json=as_json)
        return
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.domain.advise.range_test import Ramp
    from hpo_service.presentation.advice import rate_range as shown
    from hpo_service.service.advice.short_runs import range_test

    ramp, cache = Ramp(low, high, steps), Settings.read().cache
    found = _watched(lambda tell: range_test(config, ramp, cache, tell))
    if plot is not None:
        shown.draw_range(found, name, plot)
    if as_json:
        print_json(shown.range_document(name, found))
        return
    for line in shown.range_lines(found):
        typer.echo(line)
    if plot is not None:
        typer.echo(f"drawn in {plot}")


def _sweep(config: TrialConfig, name: str, rates: list[float], steps: int, plot: Path | None, *, as_json: bool) -> None:
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.cli.rendering.pages import text_table
    from hpo_service.presentation.advice import rate_range as shown
    from hpo_service.service.advice.short_runs import sweep

    cache = Settings.read().cache
    found = _watched(lambda tell: sweep(config, rates, steps, cache, tell))
    if plot is not None:
        shown.draw_sweep(found, name, plot)
    if as_json:
        print_json(shown.sweep_document(name, found))
        return
    console().print(text_table(shown.sweep_table(found)))
    for line in shown.sweep_lines(found):
        typer.echo(line)


def _config(
    model: str | None,
    data: str | None,
    study: Path | None,
    method: str,
    rank: int,
    batch: int,
    max_length: int,
    *,
    warn: bool,
) -> TrialConfig:
    from pydantic import ValidationError

    from hpo_service.domain.study.sections.data import DataSpec
    from hpo_service.domain.study.sections.model import ModelSpec
    from hpo_service.domain.study.sections.training import TrainingSpec
    from hpo_service.service.advice.short_runs import configured, configured_as

    if study is not None:
        if model is not None or data is not None:
            raise UsageError("a study file names model and rows itself: leave MODEL and DATA out")
        return configured_as(load_study(study, warn=warn))
    if model is None or data is None:
        raise UsageError("name MODEL and DATA, or a study file with --study FILE")
    try:
        return configured(
            ModelSpec(base=model),
            DataSpec(source=_place(data), max_length=max_length),
            TrainingSpec(method=method, lora_rank=rank, effective_batch=batch),
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UsageError(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from None


def _place(data: str) -> str:
    """Name a file of this folder so that it is no data set of the hub."""
    return str(Path(data).absolute()) if Path(data).exists() else data


def _rates(text: str) -> list[float]:
    if text == USUAL:
        return list(USUAL_RATES)
    try:
        rates = sorted({float(each) for each in text.split(",")})
    except ValueError:
        rates = []
    if not rates or not all(0 < rate <= 1 for rate in rates):
        raise UsageError(f"--sweep takes rates above 0 and up to 1, e.g. 1e-4,3e-4, or `{USUAL}`, not {text!r}")
    return rates


def _watched(work: Callable[[Callable[[str], object]], T]) -> T:
    """Do something that takes a while, and show on a terminal what it says of itself."""
    from rich.markup import escape

    from hpo_service.cli.rendering.console import console

    with console(stderr=True).status("loading") as status:
        return work(lambda line: status.update(escape(line)))
