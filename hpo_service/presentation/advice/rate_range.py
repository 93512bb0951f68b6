"""Range tests and sweeps of the learning rate: lines, plain data and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpo_service.presentation.advice.picture import INK, LINES, MUTED, log_rates, picture
from hpo_service.presentation.formatting import measured, number
from hpo_service.presentation.text_table import TextTable
from hpo_service.service.advice.short_runs import Ranged, Swept

SOURCE = "range test of Smith, arXiv 1506.01186; smoothing and stopping after Howard's lr_find"
SHORT = "it is of a short run: for thousands of steps a third of it is safer, and a search around it finds out"


def range_document(model: str, found: Ranged) -> dict[str, Any]:
    """Return a range test as plain data; losses are in nats a token."""
    test, said = found.test, found.suggestion
    return {
        "model": model,
        "suggestion": said.rate,
        "reason": said.reason,
        "steepest": said.steepest,
        "lowest": said.lowest,
        "stopped": found.stopped or None,
        "source": SOURCE,
        "rates": test.rates,
        "losses": test.losses,
        "smoothed": test.smoothed,
    }


def sweep_document(model: str, found: Swept) -> dict[str, Any]:
    """Return a sweep as plain data; losses are in nats a token."""
    rates = [
        {"learning_rate": each.rate, "train_loss": each.train_loss, "validation_loss": each.validation_loss}
        for each in found.rates
    ]
    return {"model": model, "suggestion": found.suggestion.rate, "reason": found.suggestion.reason, "sweep": rates}


def range_lines(found: Ranged) -> Iterator[str]:
    """Say what a range test suggests, and why."""
    test, said = found.test, found.suggestion
    if test.losses:
        ends = f"{number(test.rates[0])} to {number(test.rates[-1])}"
        yield f"{len(test.losses)} steps from a learning rate of {ends}"
    if found.stopped:
        yield f"stopped: {found.stopped}"
    yield from _suggestion(said.rate, said.reason)
    if said.rate is not None:
        yield f"  note:   {SHORT}"


def sweep_table(found: Swept) -> TextTable:
    """Lay out the losses of a sweep."""
    rows = [[number(each.rate), measured(each.train_loss), measured(each.validation_loss)] for each in found.rates]
    return TextTable(["learning rate", "training loss", "validation loss"], rows)


def sweep_lines(found: Swept) -> Iterator[str]:
    """Say which rate a sweep suggests, and why."""
    yield from _suggestion(found.suggestion.rate, found.suggestion.reason)


def draw_range(found: Ranged, model: str, path: Path) -> None:
    """Draw the loss over the rate, as it was and smoothed, with the rate that is suggested.

    Raises:
        UsageError: the file's ending names no format.
    """
    test, said = found.test, found.suggestion
    with picture(path, f"Learning-rate range test of {model}") as axes:
        axes.plot(test.rates, test.losses, color=MUTED, linewidth=0.7, alpha=0.6, label="loss of each step")
        axes.plot(test.rates, test.smoothed, color=LINES[0], linewidth=1.8, label="smoothed")
        if said.rate is not None:
            axes.axvline(said.rate, color=LINES[1], linewidth=1.4, label=f"suggested: {number(said.rate)}")
        for rate, mark in ((said.steepest, "v"), (said.lowest, "o")):
            if rate is not None:
                place = min(range(len(test.rates)), key=lambda step: abs(test.rates[step] - rate))
                axes.plot([rate], [test.smoothed[place]], mark, color=INK, markersize=5)
        log_rates(axes)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss, nats a token")
        axes.legend()


def draw_sweep(found: Swept, model: str, path: Path) -> None:
    """Draw the losses of a sweep over the rate.

    Raises:
        UsageError: the file's ending names no format.
    """
    with picture(path, f"Learning rates of {model}") as axes:
        for name, colour in (("train_loss", LINES[1]), ("validation_loss", LINES[0])):
            points = [(each.rate, getattr(each, name)) for each in found.rates if getattr(each, name) is not None]
            axes.plot([x for x, _ in points], [y for _, y in points], "-o", color=colour, label=name.replace("_", " "))
        log_rates(axes)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss, nats a token")
        axes.legend()


def _suggestion(rate: float | None, reason: str) -> Iterator[str]:
    yield f"suggested learning rate: {number(rate)}" if rate is not None else "no learning rate is suggested"
    yield f"  reason: {reason}"
