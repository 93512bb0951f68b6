"""Results and studies as tables for people and as plain data for `--json`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.cost import study_cost
from hpo_service.presentation.formatting import configuration, device_time, duration, measured, number, perplexed
from hpo_service.presentation.stage_summary import stage_summary
from hpo_service.service.studies.evidence import Configuration, Evidence, Verdict
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView

if TYPE_CHECKING:
    from hpo_service.storage.workers import WorkerRow

VERDICT_STYLES = {
    Verdict.BETTER: "bold green",
    Verdict.WORSE: "bold red",
    Verdict.UNCLEAR: "bold yellow",
    Verdict.UNTESTED: "bold yellow",
}
STATE_STYLES = {
    TrialState.COMPLETE: "green",
    TrialState.RUNNING: "cyan",
    TrialState.PRUNED: "yellow",
    TrialState.INFEASIBLE: "magenta",
    TrialState.FAILED: "red",
    TrialState.CANCELLED: "red",
    TrialState.WAITING: "blue",
}


def verdict_table(evidence: Evidence) -> RenderableType:
    """Return the verdict in words, default against winner in a table, and what to know besides."""
    sentence = evidence.sentence[:1].upper() + evidence.sentence[1:]
    parts: list[RenderableType] = [lines([Text(f"{sentence}.", style=VERDICT_STYLES[evidence.verdict])])]
    if evidence.winner is not None:
        parts.append(_comparison(evidence))
    return Group(*parts, lines([Text(f"Note: {remark}", style="yellow") for remark in evidence.remarks]))


def _comparison(evidence: Evidence) -> Table:
    sides = [side for side in (evidence.default, evidence.winner) if side is not None]
    heads = [Column(side.label, justify="right", no_wrap=True) for side in sides]
    table = Table(Column(f"{evidence.measure}, {evidence.direction.comparative} is better"), *heads, box=box.ROUNDED)
    if any(side.test is not None for side in sides):
        table.add_row("test, mean of seeds", *(measured(side.test) for side in sides))
    validation = "mean of seeds" if evidence.selected_on == evidence.measure else "validation, mean of seeds"
    table.add_row(validation, *(measured(side.validation) for side in sides))
    if evidence.is_loss:
        on_test = all(side.test is not None for side in sides)
        losses = [side.test if on_test else side.validation for side in sides]
        table.add_row("perplexity, test" if on_test else "perplexity, validation", *map(perplexed, losses))
    for name in dict.fromkeys(name for side in sides for name in side.metrics):
        table.add_row(f"{name}, test", *(number(side.metrics.get(name, "–")) for side in sides))
    table.add_row("seeds", *(_seeds(side) for side in sides))
    comparison = evidence.comparison
    if comparison is not None:
        blank = [""] * (len(sides) - 1)
        table.add_row("improvement", *blank, f"{comparison.improvement:+.2f}{comparison.unit}")
        table.add_row(comparison.level, *blank, comparison.interval)
    table.add_section()
    for name in dict.fromkeys(name for side in sides for name in side.parameters):
        table.add_row(name, *(number(side.parameters.get(name, "–")) for side in sides))
    return table


def _seeds(side: Configuration) -> str:
    ended = sum(run.validation is not None for run in side.runs)
    return str(ended) if ended == len(side.runs) else f"{ended} of {len(side.runs)}"


UNREADABLE = "unreadable"
"""What stands for the state of a study that another version made."""


def studies_table(snapshots: Iterable[StudySnapshot], unreadable: Mapping[str, str]) -> Table:
    """Return the list of studies with where each of them stands; below, by name, why others cannot be read."""
    table = Table(
        Column("study", no_wrap=True),
        Column("state", no_wrap=True),
        Column("stage", no_wrap=True),
        Column("trials", justify="right", no_wrap=True),
        Column("model", no_wrap=True),
        "why",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for snapshot in snapshots:
        stage = snapshot.current
        table.add_row(
            snapshot.name,
            snapshot.state,
            stage.stage,
            f"{stage.ended}/{stage.budget}",
            _models(snapshot.spec),
            Text(snapshot.reason),
        )
    for name, why in unreadable.items():
        table.add_row(name, UNREADABLE, "", "", "", Text(why))
    return table


def study_tables(snapshot: StudySnapshot) -> list[RenderableType]:
    """Return a study with its stages, their trials and the reasons of every decision, part by part."""
    spent = study_cost(snapshot)
    head = [
        Text.assemble((snapshot.name, "bold"), f"  {snapshot.state}: {snapshot.reason}"),
        Text(f"device time {device_time(spent.seconds)}, about {device_time(spent.saved)} saved by pruning"),
    ]
    return [lines(head), *(part for view in snapshot.stages for part in _stage(snapshot, view))]


def _stage(snapshot: StudySnapshot, view: StageView) -> list[RenderableType]:
    told = stage_summary(snapshot, view)
    is_loss = snapshot.spec.objective is None
    head = [
        Text.assemble((f"\n{view.stage}", "bold"), f"  {told.counts}"),
        Text(f"opened: {told.opened}"),
        Text("still open" if view.open else f"closed: {told.closed}"),
    ]
    reasons = [f"{line.trial}: {line.text}" for line in (*told.planned, *told.stopped, *told.endings)]
    reasons += [f"#{trial.number}: {configuration(trial.metrics)}" for trial in view.trials if trial.metrics]
    reasons += [*([told.promoted] if told.promoted else []), *told.warnings]
    return [
        lines(head),
        _trials(view, is_loss=is_loss),
        lines((Text(reason, style="dim") for reason in reasons), mark="·"),
    ]


def _trials(view: StageView, *, is_loss: bool) -> Table:
    table = Table(
        Column("#", justify="right", no_wrap=True),
        Column("state", no_wrap=True),
        Column("value", justify="right", no_wrap=True),
        *([Column("ppl", justify="right", no_wrap=True)] if is_loss else []),
        Column("device s", justify="right", no_wrap=True),
        Column("configuration", ratio=1, no_wrap=True, overflow="ellipsis"),
        expand=True,
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for trial in view.trials:
        table.add_row(
            "" if trial.number is None else str(trial.number),
            Text(trial.state, style=STATE_STYLES[trial.state]),
            measured(trial.value),
            *([perplexed(trial.value)] if is_loss else []),
            f"{trial.device_seconds:.1f}",
            Text(f"{trial.label}: {configuration(trial.parameters)}".removeprefix(": ")),
        )
    return table


def worker_table(rows: Iterable[WorkerRow], now: float) -> Table:
    """Return the list of workers, the latest to give a sign of life first.

    Args:
        rows: workers as stored.
        now: the time by the database's clock, in seconds since 1970.
    """
    table = Table(
        Column("worker", no_wrap=True),
        Column("state", no_wrap=True),
        Column("seen", justify="right", no_wrap=True),
        Column("devices", no_wrap=True),
        Column("version", no_wrap=True),
        "why",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for row in sorted(rows, key=lambda row: row.seen_at, reverse=True):
        seen = f"{duration(max(0.0, now - row.seen_at))} ago"
        table.add_row(row.id, row.state, seen, Text(str(row.devices)), row.version, Text(row.reason))
    return table


def verdict_json(snapshot: StudySnapshot, evidence: Evidence) -> dict[str, Any]:
    """Return what was found as plain data; numbers that are not finite become null."""
    comparison = evidence.comparison
    spent = study_cost(snapshot)
    document: dict[str, Any] = plain(
        {
            "study": snapshot.name,
            "state": snapshot.state,
            "verdict": evidence.verdict,
            "sentence": evidence.sentence,
            "stage": evidence.stage,
            "measure": evidence.measure,
            "maximize": evidence.direction.maximize,
            "comparison": dataclasses.asdict(comparison) if comparison else None,
            "configurations": [_configuration_json(side) for side in evidence.configurations],
            "recommended": evidence.recommended.label if evidence.recommended else None,
            "choice": evidence.choice,
            "exported": dataclasses.asdict(evidence.exported) if evidence.exported else None,
            "export": evidence.export,
            "remarks": evidence.remarks,
            "trials": {view.stage: _counts(view) for view in snapshot.stages},
            "device_seconds": spent.seconds,
            "device_seconds_saved_estimate": spent.saved,
        }
    )
    return document


def studies_json(snapshots: Iterable[StudySnapshot], unreadable: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the list of studies as plain data; of those that cannot be read, name and reason alone."""
    lost = [{"name": name, "state": UNREADABLE, "reason": why} for name, why in unreadable.items()]
    return [
        {
            "name": snapshot.name,
            "state": str(snapshot.state),
            "reason": snapshot.reason,
            "stage": str(snapshot.current.stage),
            "trials_ended": snapshot.current.ended,
            "trials_budget": snapshot.current.budget,
            "model": snapshot.spec.model.model_dump(mode="json") if snapshot.spec.model else None,
            "created_at": snapshot.created_at,
        }
        for snapshot in snapshots
    ] + lost


def study_json(snapshot: StudySnapshot) -> dict[str, Any]:
    """Return a study with its stages, trials and curves as plain data."""
    document: dict[str, Any] = plain(
        {
            "name": snapshot.name,
            "state": snapshot.state,
            "reason": snapshot.reason,
            "created_at": snapshot.created_at,
            "now": snapshot.now,
            "spec": snapshot.spec.model_dump(mode="json", exclude_unset=True),
            "stages": [_stage_json(view) for view in snapshot.stages],
        }
    )
    return document


def _stage_json(view: StageView) -> dict[str, Any]:
    return {
        "stage": view.stage,
        "open": view.open,
        "budget": view.budget,
        "reason": view.reason,
        "plan": view.plan,
        "opened_at": view.opened_at,
        "closed_at": view.closed_at,
        "counts": _counts(view),
        "trials": [_trial_json(trial) for trial in view.trials],
    }


def _trial_json(trial: TrialView) -> dict[str, Any]:
    fields = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
    points = [{"step": r.step, "fraction": r.fraction, "value": r.value} for r in trial.curve]
    return {**fields, "curve": points}


def _configuration_json(side: Configuration) -> dict[str, Any]:
    return {**dataclasses.asdict(side), "validation": side.validation, "test": side.test}


def _counts(view: StageView) -> dict[str, int]:
    return {state: count for state in TrialState if (count := view.count(state))}


def plain(value: Any) -> Any:
    """Turn enumerations into their text and numbers that JSON has no form for into null, all the way down."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, str) else value


def _models(spec: StudySpec) -> str:
    if spec.model is None:
        return "own objective"
    return f"{spec.model.base}\n→ {spec.model.target}" if spec.model.target else spec.model.base


def lines(texts: Iterable[Text], mark: str = "") -> Table:
    """Stack texts so that they wrap at words, also on a console that does not wrap by itself."""
    marks = [Column(no_wrap=True)] if mark else []
    grid = Table.grid(*marks, Column(no_wrap=False), padding=(0, 1) if mark else 0)
    for text in texts:
        grid.add_row(*([Text(mark, style="dim")] if mark else []), text)
    return grid
