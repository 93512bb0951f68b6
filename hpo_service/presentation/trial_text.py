"""One trial in words: what it was, how it went, how it ended, and what it left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hpo_service.domain.decide.measure import measure_of
from hpo_service.domain.study.protocol import STAGES
from hpo_service.presentation.formatting import configuration, duration, measured, moment, number, perplexed
from hpo_service.presentation.text_table import TextTable
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


def trial_name(record: TrialRecord) -> str:
    """Name the trial with its study, e.g. `mine/confirm #0 (winner 1)`."""
    return f"{record.study}/{record.stage} #{record.trial.number}" + (
        f" ({record.trial.label})" if record.trial.label else ""
    )


def about_trial(record: TrialRecord) -> list[tuple[str, str]]:
    """Say what is known of a trial, each line with what it is about; what is not known is left out."""
    trial = record.trial
    value, measure = measured(trial.value), measure_of(record.spec)
    if measure.is_loss and trial.value is not None:
        value += f", perplexity {perplexed(trial.value)}"
    rows = [
        (f"value, {measure.name}" if measure.metric else "value", value),
        *((name, number(score)) for name, score in trial.metrics.items()),
        ("reason", trial.reason),
        ("not chosen", trial.violated),
        ("model", STAGES[record.stage].model_of(record.spec) or ""),
        ("parameters", configuration(trial.parameters)),
        ("seed", str(trial.seed)),
        ("role", trial.role),
        ("carried on from", record.origin),
        ("worker", trial.worker or ""),
        ("device time", f"{duration(trial.own_seconds)} in {trial.attempt} attempt{'s' * (trial.attempt != 1)}"),
        ("prepared for all", duration(trial.preparing_seconds) if trial.preparing_seconds else ""),
        ("started", moment(trial.started_at) if trial.started_at else ""),
        ("ended", moment(trial.ended_at) if trial.ended_at else ""),
    ]
    return [(label, text) for label, text in rows if text]


def sparkline(values: Sequence[float | None]) -> str:
    """Draw values as bars, the largest highest; a dot where there is none."""
    present = [value for value in values if value is not None]
    low, high = min(present, default=0.0), max(present, default=0.0)
    step = (high - low) / (len(BARS) - 1) or 1.0
    return "".join("·" if value is None else BARS[round((value - low) / step)] for value in values)


def curve_table(record: TrialRecord) -> TextTable:
    """Lay out the evaluations of a trial, with the measures that any of them has."""
    names = [name for name in _CURVE if any(name in report.metrics for report in record.trial.curve)]
    measure = measure_of(record.spec)
    is_loss = measure.reports_losses
    rows = [
        [
            str(report.step),
            f"{report.fraction:.0%}",
            report.note or measured(report.value),
            *([perplexed(report.value)] if is_loss else []),
            *(_cell(report.metrics.get(name)) for name in names),
        ]
        for report in record.trial.curve
    ]
    return TextTable(
        [
            "step",
            "done",
            "loss" if measure.metric else "value",
            *(["ppl"] if is_loss else []),
            *(_CURVE[name] for name in names),
        ],
        rows,
    )


def attempts_table(record: TrialRecord) -> TextTable:
    """Lay out the attempts of a trial."""
    rows = [
        [
            str(each.attempt),
            each.outcome or "running",
            "" if each.device_seconds is None else f"{each.device_seconds:.1f}",
            each.worker_id,
            each.reason,
        ]
        for each in record.attempts
    ]
    return TextTable(["#", "outcome", "device s", "worker", "why"], rows)


def fact_lines(record: TrialRecord) -> list[tuple[str, str]]:
    """Return the facts of a trial by name; of a digest its beginning."""
    lines = []
    for name, value in sorted(record.trial.facts.flat().items()):
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        lines.append((name, shown[:_SHOWN_DIGEST] + "…" if name.endswith("_fingerprint") else shown))
    return lines


def file_lines(record: TrialRecord, folders: Sequence[Path]) -> Iterator[str]:
    """Say what lies in the folders of the attempts, and that the adapter is elsewhere where it is."""
    for folder in folders:
        yield f"{folder}: {', '.join(sorted(entry.name for entry in folder.iterdir()))}"
    adapter = record.trial.adapter
    if adapter is not None and not Path(adapter).is_dir():
        yield f"the adapter is not on this machine: look for {adapter}"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if abs(value) >= 1000 else number(float(value))
