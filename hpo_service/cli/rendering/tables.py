"""Results, studies and workers as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from hpo_service.domain.decide.measure import StudyMeasure, measure_of
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.endings import STYLES
from hpo_service.presentation.comparison import comparison_tables
from hpo_service.presentation.cost import study_cost
from hpo_service.presentation.documents.study import UNREADABLE
from hpo_service.presentation.formatting import configuration, device_time, duration, measured, perplexed
from hpo_service.presentation.front import front_sentence, front_table
from hpo_service.presentation.outlook import standing
from hpo_service.presentation.stage_summary import reasons, stage_summary
from hpo_service.service.access import AccessList
from hpo_service.service.studies.findings.evidence import Evidence, Verdict
from hpo_service.service.studies.findings.front import front_of
from hpo_service.service.studies.overview import StudyLines
from hpo_service.service.studies.snapshot import StageView, StudySnapshot
from hpo_service.service.workers import WorkerList

VERDICT_STYLES = {
    Verdict.BETTER: "bold green",
    Verdict.WORSE: "bold red",
    Verdict.UNCLEAR: "bold yellow",
    Verdict.UNTESTED: "bold yellow",
}


def verdict_table(evidence: Evidence) -> RenderableType:
    """Return the verdict in words, default against winner in a table, and what to know besides."""
    parts: list[RenderableType] = [verdict_line(evidence)]
    if evidence.winner is not None:
        parts.append(_comparison(evidence))
    return Group(*parts, lines([Text(f"Note: {remark}", style="yellow") for remark in evidence.remarks]))


def verdict_line(evidence: Evidence) -> RenderableType:
    """Return the verdict in words."""
    sentence = evidence.sentence[:1].upper() + evidence.sentence[1:]
    return lines([Text(f"{sentence}.", style=VERDICT_STYLES[evidence.verdict])])


def opening_line(snapshot: StudySnapshot, evidence: Evidence) -> RenderableType:
    """Return the verdict where the study has confirmed its winner, else where the study stands."""
    if has_verdict(snapshot, evidence):
        return verdict_line(evidence)
    said = standing(snapshot)
    return lines([Text(f"{said[:1].upper()}{said[1:]}.", style="bold")])


def has_verdict(snapshot: StudySnapshot, evidence: Evidence) -> bool:
    """Whether confirm has ended with something to say; while it runs its sentence is preliminary."""
    confirm = snapshot.where(lambda rule: rule.compares)
    return evidence.confirmed and confirm is not None and not confirm.open


def _comparison(evidence: Evidence) -> Table:
    measured_rows, parameter_rows = comparison_tables(evidence)
    first, *sides = measured_rows.heads
    table = Table(Column(first), *(Column(side, justify="right", no_wrap=True) for side in sides), box=box.ROUNDED)
    for row in measured_rows.rows:
        table.add_row(*row)
    table.add_section()
    for row in parameter_rows.rows:
        table.add_row(*row)
    return table


def studies_table(studies: StudyLines) -> Table:
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
    for study in (line.snapshot for line in studies.lines):
        view = study.current
        ended = f"{view.ended}/{view.budget}"
        table.add_row(study.name, study.state, view.stage, ended, _models(study.spec), Text(study.reason))
    for name, why in studies.unreadable.items():
        table.add_row(name, UNREADABLE, "", "", "", Text(why))
    return table


def study_tables(snapshot: StudySnapshot) -> list[RenderableType]:
    """Return a study with its stages, their trials and the reasons of every decision, part by part."""
    spent = study_cost(snapshot)
    prepared = f"; {device_time(spent.preparing)} of it to load and prepare" if spent.preparing else ""
    head = [
        Text.assemble((snapshot.name, "bold"), f"  {snapshot.state}: {snapshot.reason}"),
        Text(f"device time {device_time(spent.seconds)}, about {device_time(spent.saved)} saved by pruning{prepared}"),
    ]
    return [lines(head), *(part for view in snapshot.stages for part in _stage(snapshot, view)), *_front(snapshot)]


def _front(snapshot: StudySnapshot) -> list[RenderableType]:
    """Return the Pareto front of a study with several goals."""
    front = front_of(snapshot)
    if front is None:
        return []
    shown = front_table(front)
    numbers = [Column(head, justify="right", no_wrap=True) for head in shown.heads[:-1]]
    table = Table(*numbers, Column(shown.heads[-1], ratio=1), box=box.SIMPLE_HEAD, show_edge=False, expand=True)
    for row in shown.rows:
        table.add_row(*(Text(cell) for cell in row))
    return [Text("\nfront", style="bold"), lines([Text(front_sentence(front))]), table]


def _stage(snapshot: StudySnapshot, view: StageView) -> list[RenderableType]:
    told = stage_summary(snapshot, view)
    measure = measure_of(snapshot.spec)
    head = [
        Text.assemble((f"\n{view.stage}", "bold"), f"  {told.counts}"),
        Text(f"opened: {told.opened}"),
        Text("still open" if view.open else f"closed: {told.closed}"),
    ]
    return [
        lines(head),
        _trials(view, measure),
        *_left_out(view),
        lines((Text(reason, style="dim") for reason in reasons(told, view)), mark="·"),
    ]


def _left_out(view: StageView) -> list[RenderableType]:
    total, listed = view.tally.total, len(view.trials)
    if total == listed:
        return []
    rest = f"{listed} of {total} trials are listed: the latest, what is open, the best and what was carried on"
    return [lines([Text(f"{rest} (--trials {total} lists all)", style="dim")])]


def _trials(view: StageView, measure: StudyMeasure) -> Table:
    table = Table(
        Column("#", justify="right", no_wrap=True),
        Column("state", no_wrap=True),
        Column(measure.name if measure.metric else "value", justify="right", no_wrap=True),
        *([Column("ppl", justify="right", no_wrap=True)] if measure.is_loss else []),
        *([Column("loss", justify="right", no_wrap=True)] if measure.metric else []),
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
            Text(trial.state, style=STYLES[trial.state]),
            measured(trial.value),
            *([perplexed(trial.value)] if measure.is_loss else []),
            *([measured(trial.reported)] if measure.metric else []),
            f"{trial.own_seconds:.1f}",
            Text(f"{trial.label}: {configuration(trial.parameters)}".removeprefix(": ")),
        )
    return table


def worker_table(found: WorkerList) -> Table:
    """Return the list of workers, the latest to give a sign of life first."""
    table = Table(
        Column("worker", no_wrap=True),
        Column("state", no_wrap=True),
        Column("seen", justify="right", no_wrap=True),
        Column("devices", no_wrap=True),
        Column("job", no_wrap=True),
        Column("version", no_wrap=True),
        "why",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for row in sorted(found.workers, key=lambda row: row.seen_at, reverse=True):
        seen = f"{duration(max(0.0, found.now - row.seen_at))} ago"
        memory = [] if row.resources.memory_gb is None else [f"{row.resources.memory_gb:.0f} GB"]
        told = [label for label in row.resources.labels if label not in ("cpu", "gpu")]
        devices = Text(" ".join([str(row.devices), *memory, *told]))
        table.add_row(row.id, row.state, seen, devices, Text(row.job or ""), row.version, Text(row.reason))
    return table


def token_table(found: AccessList) -> Table:
    """Return the list of access tokens, the oldest first."""
    fixed = [Column(name, no_wrap=True) for name in ("id", "name", "role", "state", "used")]
    table = Table(*fixed, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for row in found.tokens:
        used = "never" if row.used_at is None else f"{duration(max(0.0, found.now - row.used_at))} ago"
        table.add_row(row.id, Text(row.name), row.role, row.state(found.now), used)
    return table


def webhook_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """Return the list of webhooks, the oldest first."""
    fixed = [Column(name, no_wrap=True) for name in ("id", "url", "study")]
    table = Table(*fixed, "last error", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for row in found:
        table.add_row(row["id"], Text(row["url"]), Text(row["study"] or "all"), Text(row["error"]))
    return table


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
