"""Results and studies as tables for people and as plain data for `--json`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Protocol

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from hpo_service.domain.states import StudyState, TrialState
from hpo_service.report.account import account
from hpo_service.report.effort import effort
from hpo_service.report.wording import configuration, device_time, measured, number
from hpo_service.service.evidence import Configuration, Evidence, Verdict
from hpo_service.service.snapshot import StageView, StudySnapshot, TrialView

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


class ListedStudy(Protocol):
    """What `study list` shows of a study; a row of the database has it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def state(self) -> StudyState:
        """Its state."""

    @property
    def reason(self) -> str:
        """Why it is in that state."""

    @property
    def spec(self) -> dict[str, Any]:
        """What its study file gave."""

    @property
    def created_at(self) -> float:
        """Seconds since 1970."""


def verdict_table(evidence: Evidence) -> RenderableType:
    """Return the verdict in words, default against winner in a table, and what to know besides."""
    sentence = evidence.sentence[:1].upper() + evidence.sentence[1:]
    parts: list[RenderableType] = [_lines([Text(f"{sentence}.", style=VERDICT_STYLES[evidence.verdict])])]
    if evidence.winner is not None:
        parts.append(_comparison(evidence))
    return Group(*parts, _lines([Text(f"Note: {remark}", style="yellow") for remark in evidence.remarks]))


def _comparison(evidence: Evidence) -> Table:
    sides = [side for side in (evidence.default, evidence.winner) if side is not None]
    better = "higher" if evidence.maximize else "lower"
    heads = [Column(side.label, justify="right", no_wrap=True) for side in sides]
    table = Table(Column(f"{evidence.measure}, {better} is better"), *heads, box=box.ROUNDED)
    if any(side.test is not None for side in sides):
        table.add_row("test, mean of seeds", *(measured(side.test) for side in sides))
    table.add_row("validation, mean of seeds", *(measured(side.validation) for side in sides))
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


def studies_table(rows: Iterable[ListedStudy]) -> Table:
    """Return the list of studies."""
    table = Table(
        Column("study", no_wrap=True),
        Column("state", no_wrap=True),
        Column("model", no_wrap=True),
        Column("created", no_wrap=True),
        "why",
        box=box.SIMPLE_HEAD,
        show_edge=False,
    )
    for row in rows:
        table.add_row(row.name, row.state, _models(row.spec), _moment(row.created_at), Text(row.reason))
    return table


def study_table(snapshot: StudySnapshot) -> RenderableType:
    """Return a study with its stages, their trials and the reasons of every decision."""
    spent = effort(snapshot)
    head = [
        Text.assemble((snapshot.name, "bold"), f"  {snapshot.state}: {snapshot.reason}"),
        Text(f"device time {device_time(spent.seconds)}, about {device_time(spent.saved)} saved by pruning"),
    ]
    return Group(_lines(head), *(part for view in snapshot.stages for part in _stage(snapshot, view)))


def _stage(snapshot: StudySnapshot, view: StageView) -> list[RenderableType]:
    told = account(snapshot, view)
    head = [
        Text.assemble((f"\n{view.stage}", "bold"), f"  {told.counts}"),
        Text(f"opened: {told.opened}"),
        Text("still open" if view.open else f"closed: {told.closed}"),
    ]
    reasons = [f"{line.trial}: {line.text}" for line in (*told.planned, *told.stopped, *told.endings)]
    reasons += [*([told.promoted] if told.promoted else []), *told.warnings]
    return [_lines(head), _trials(view), _lines((Text(reason, style="dim") for reason in reasons), mark="·")]


def _trials(view: StageView) -> Table:
    table = Table(
        Column("#", justify="right", no_wrap=True),
        Column("state", no_wrap=True),
        Column("value", justify="right", no_wrap=True),
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
            f"{trial.device_seconds:.1f}",
            Text(f"{trial.label}: {configuration(trial.parameters)}".removeprefix(": ")),
        )
    return table


def verdict_json(snapshot: StudySnapshot, evidence: Evidence) -> dict[str, Any]:
    """Return what was found as plain data; numbers that are not finite become null."""
    comparison = evidence.comparison
    spent = effort(snapshot)
    document: dict[str, Any] = _plain(
        {
            "study": snapshot.name,
            "state": snapshot.state,
            "verdict": evidence.verdict,
            "sentence": evidence.sentence,
            "stage": evidence.stage,
            "measure": evidence.measure,
            "maximize": evidence.maximize,
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


def studies_json(rows: Iterable[ListedStudy]) -> list[dict[str, Any]]:
    """Return the list of studies as plain data."""
    return [
        {
            "name": row.name,
            "state": str(row.state),
            "reason": row.reason,
            "model": row.spec.get("model"),
            "created_at": row.created_at,
        }
        for row in rows
    ]


def study_json(snapshot: StudySnapshot) -> dict[str, Any]:
    """Return a study with its stages, trials and curves as plain data."""
    document: dict[str, Any] = _plain(
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


def _plain(value: Any) -> Any:
    """Turn enumerations into their text and numbers that JSON has no form for into null, all the way down."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, str) else value


def _models(spec: dict[str, Any]) -> str:
    model = spec.get("model")
    if not model:
        return "own objective"
    return "\n→ ".join(name for name in (model.get("base"), model.get("target")) if name)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d")


def _lines(texts: Iterable[Text], mark: str = "") -> Table:
    """Stack texts so that they wrap at words, also on a console that does not wrap by itself."""
    marks = [Column(no_wrap=True)] if mark else []
    grid = Table.grid(*marks, Column(no_wrap=False), padding=(0, 1) if mark else 0)
    for text in texts:
        grid.add_row(*([Text(mark, style="dim")] if mark else []), text)
    return grid
