"""The report as Markdown, for a pull request or a notebook: the verdict, the stages, the cost; no pictures."""

from __future__ import annotations

from collections.abc import Iterator

from hpo_service.presentation.cost import study_cost
from hpo_service.presentation.formatting import device_time, measured, moment, number
from hpo_service.presentation.report.page import parameter_values, rows_seen
from hpo_service.presentation.stage_summary import stage_summary
from hpo_service.presentation.study_text import study_text
from hpo_service.service.studies.findings.evidence import Evidence
from hpo_service.service.studies.snapshot import StudySnapshot

OF_TEXT = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#"})
"""What Markdown would take for its own marks."""


def render_markdown(snapshot: StudySnapshot, evidence: Evidence) -> str:
    """Return what was found as Markdown; what came from people or machines is escaped."""
    return "\n".join(_lines(snapshot, evidence)) + "\n"


def plain(text: str) -> str:
    """Return a text so that Markdown shows it as it is, in one line."""
    return " ".join(text.split()).translate(OF_TEXT)


def _lines(snapshot: StudySnapshot, evidence: Evidence) -> Iterator[str]:
    yield f"# {plain(snapshot.name)}"
    yield ""
    yield f"**{plain(evidence.sentence[0].upper() + evidence.sentence[1:])}.**"
    yield ""
    yield from (f"* {plain(remark)}" for remark in evidence.remarks)
    yield from _winner(snapshot, evidence)
    for view in snapshot.stages:
        told = stage_summary(snapshot, view)
        yield from ("", f"## {plain(told.stage.capitalize())}", "")
        yield from (f"* {plain(line)}" for line in (told.counts, told.opened, told.closed, *told.found, *told.warnings))
    rows = rows_seen(snapshot)
    if rows:
        yield from ("", "## Data", "")
        yield from (f"* {name}: {plain(said)}" for name, said in rows)
    yield from (
        "",
        "## Cost",
        "",
        "| stage | trials | pruned | device time | saved by pruning |",
        "|---|--:|--:|--:|--:|",
    )
    cost = study_cost(snapshot)
    for stage in cost.stages:
        times = f"{device_time(stage.seconds)} | {device_time(stage.saved)}"
        yield f"| {stage.stage} | {stage.trials} | {stage.pruned} | {times} |"
    yield from ("", "## Study file", "", "```yaml", study_text(snapshot.spec).rstrip("\n"), "```", "")
    yield f"As of {moment(snapshot.now)}."


def _winner(snapshot: StudySnapshot, evidence: Evidence) -> Iterator[str]:
    if evidence.winner is None:
        return
    beside = evidence.default
    yield from ("", f"| | {'default | ' if beside else ''}{plain(evidence.winner.label)} |")
    yield "|---|" + ("--:|" if beside else "") + "--:|"
    for name in ("test", "validation"):
        sides = [getattr(side, name) for side in (beside, evidence.winner) if side is not None]
        if any(value is not None for value in sides):
            said = evidence.measure if name == "test" else evidence.selected_on
            yield f"| {plain(said)}, {name} | " + " | ".join(measured(value) for value in sides) + " |"
    for name, winner, default in parameter_values(snapshot.spec, evidence):
        cells = [default, winner] if beside else [winner]
        yield f"| {plain(name)} | " + " | ".join("–" if c is None else plain(number(c)) for c in cells) + " |"
