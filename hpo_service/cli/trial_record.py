"""One trial on one screen: what it was, how it went, how it ended, and what it left."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from hpo_service.cli.tables import STATE_STYLES, plain
from hpo_service.domain.study.protocol import STAGES
from hpo_service.presentation.formatting import configuration, duration, measured, number, perplexed
from hpo_service.presentation.perplexity import perplexity
from hpo_service.presentation.report.page import moment
from hpo_service.service.studies.trial_record import TrialRecord

BARS = "▁▂▃▄▅▆▇█"
_SHOWN_DIGEST = 12
_CURVE = {
    "train_loss": "train loss",
    "learning_rate": "lr",
    "grad_norm": "grad norm",
    "tokens_per_second": "tokens/s",
    "seconds": "s",
    "memory_gb": "GB",
}
"""Measures of an evaluation that have a column, and what they are called there."""


def trial_folders(output: Path, record: TrialRecord) -> list[Path]:
    """Return the folders of the trial's attempts that lie on this machine, first to last."""
    home = output / record.study / "trials" / record.key
    return [folder for n in range(1, record.trial.attempt + 1) if (folder := home / f"attempt-{n}").is_dir()]


def record_parts(record: TrialRecord, folders: Sequence[Path]) -> list[RenderableType]:
    """Return everything about a trial, part by part."""
    parts: list[RenderableType] = [_head(record)]
    if record.trial.curve:
        parts += [_heading("curve"), Text(sparkline([r.value for r in record.trial.curve])), _curve(record)]
    parts += [_heading("attempts"), _attempts(record)]
    if record.trial.facts:
        parts += [_heading("facts"), _facts(record)]
    files = list(_files(record, folders))
    # as lines of their own: a path must be whole to be of use
    return [*parts, _heading("files"), *(Text(file) for file in files)] if files else parts


def record_json(record: TrialRecord, folders: Sequence[Path]) -> dict[str, Any]:
    """Return everything about a trial as plain data."""
    trial, is_loss = record.trial, record.spec.objective is None
    fields = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
    document: dict[str, Any] = plain(
        {
            "study": record.study,
            "stage": record.stage,
            "model": STAGES[record.stage].model_of(record.spec),
            **fields,
            "perplexity": perplexity(trial.value) if is_loss else None,
            "metrics": trial.metrics,
            "origin": record.origin or None,
            "curve": [dataclasses.asdict(report) for report in trial.curve],
            "attempts": [dataclasses.asdict(attempt) for attempt in record.attempts],
            "folders": [str(folder) for folder in folders],
        }
    )
    return document


def sparkline(values: Sequence[float | None]) -> str:
    """Draw values as bars, the largest highest; a dot where there is none."""
    present = [value for value in values if value is not None]
    low, high = min(present, default=0.0), max(present, default=0.0)
    step = (high - low) / (len(BARS) - 1) or 1.0
    return "".join("·" if value is None else BARS[round((value - low) / step)] for value in values)


def _head(record: TrialRecord) -> RenderableType:
    trial = record.trial
    name = f"{record.study}/{record.stage} #{trial.number}" + (f" ({trial.label})" if trial.label else "")
    value = measured(trial.value)
    if record.spec.objective is None and trial.value is not None:
        value += f", perplexity {perplexed(trial.value)}"
    rows = [
        ("value", value),
        *((name, number(score)) for name, score in trial.metrics.items()),
        ("reason", trial.reason),
        ("model", STAGES[record.stage].model_of(record.spec) or ""),
        ("parameters", configuration(trial.parameters)),
        ("seed", str(trial.seed)),
        ("carried on from", record.origin),
        ("worker", trial.worker or ""),
        ("device time", f"{duration(trial.device_seconds)} in {trial.attempt} attempt{'s' * (trial.attempt != 1)}"),
        ("started", moment(trial.started_at) if trial.started_at else ""),
        ("ended", moment(trial.ended_at) if trial.ended_at else ""),
    ]
    title = Text.assemble((name, "bold"), "  ", (str(trial.state), STATE_STYLES[trial.state]))
    grid = Table.grid(Column(style="dim", no_wrap=True), Column(no_wrap=False), padding=(0, 2, 0, 0))
    for label, text in rows:
        if text:
            grid.add_row(label, Text(text))
    table = Table.grid()
    table.add_row(title)
    table.add_row(grid)
    return table


def _curve(record: TrialRecord) -> Table:
    names = [name for name in _CURVE if any(name in report.metrics for report in record.trial.curve)]
    heads = [Column(_CURVE[name], justify="right", no_wrap=True) for name in names]
    columns = ["step", "done", "value", *(["ppl"] if record.spec.objective is None else [])]
    table = _table(*(Column(name, justify="right", no_wrap=True) for name in columns), *heads)
    for report in record.trial.curve:
        value = report.note or measured(report.value)
        ppl = [perplexed(report.value)] if record.spec.objective is None else []
        table.add_row(
            str(report.step), f"{report.fraction:.0%}", value, *ppl, *(_cell(report.metrics.get(n)) for n in names)
        )
    return table


def _attempts(record: TrialRecord) -> Table:
    place, seconds = (Column(name, justify="right", no_wrap=True) for name in ("#", "device s"))
    table = _table(place, "outcome", seconds, "worker", "why")
    for each in record.attempts:
        spent = "" if each.device_seconds is None else f"{each.device_seconds:.1f}"
        table.add_row(str(each.attempt), each.outcome or "running", spent, each.worker_id, Text(each.reason))
    return table


def _facts(record: TrialRecord) -> Table:
    grid = Table.grid(Column(style="dim", no_wrap=True), Column(no_wrap=False), padding=(0, 2, 0, 0))
    for name, value in sorted(record.trial.facts.items()):
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        grid.add_row(name, Text(shown[:_SHOWN_DIGEST] + "…" if name.endswith("_fingerprint") else shown))
    return grid


def _files(record: TrialRecord, folders: Sequence[Path]) -> Iterator[str]:
    for folder in folders:
        yield f"{folder}: {', '.join(sorted(entry.name for entry in folder.iterdir()))}"
    adapter = record.trial.adapter
    if adapter is not None and not Path(adapter).is_dir():
        yield f"the adapter is not on this machine: look for {adapter}"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if abs(value) >= 1000 else number(float(value))


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _table(*columns: Column | str) -> Table:
    return Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
