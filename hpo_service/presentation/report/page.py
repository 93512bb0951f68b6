"""`report.html`: everything a study found on one page, in one file that needs no network."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import ConflictError, UsageError
from hpo_service.presentation.advice.diagnosis import study_lines
from hpo_service.presentation.cost import study_cost
from hpo_service.presentation.exports.best import missing_adapter
from hpo_service.presentation.formatting import (
    configuration,
    device_time,
    duration,
    measured,
    moment,
    number,
    perplexed,
    short_name,
)
from hpo_service.presentation.front import front_sentence, front_table
from hpo_service.presentation.stage_summary import stage_summary
from hpo_service.presentation.study_text import study_text
from hpo_service.service.advice.study import diagnose_study
from hpo_service.service.studies.findings.evidence import Evidence, resolved
from hpo_service.service.studies.findings.front import front_of
from hpo_service.service.studies.findings.importance import importance_of
from hpo_service.service.studies.findings.transfer import transfer_of
from hpo_service.service.studies.snapshot import StudySnapshot

NAME = "report.html"
MOST_LINES = 40
"""Stopped trials whose reasons a stage's own section lists; the table has all of them."""
_PACKAGES = ("hpo-service", "optuna", "numpy")


def write_report(snapshot: StudySnapshot, evidence: Evidence, folder: Path) -> Path:
    """Write the report into a folder, which is created, and return its path; an older one is replaced whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    page = render(snapshot, evidence)
    handle, partial = tempfile.mkstemp(dir=folder, prefix=f".{NAME}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return path


def render(snapshot: StudySnapshot, evidence: Evidence) -> str:
    """Return the page as HTML; everything that came from people or machines is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hpo_service.presentation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    front = front_of(snapshot)
    environment.filters |= {
        "measured": measured,
        "number": number,
        "duration": duration,
        "device_time": device_time,
        "configuration": configuration,
        "moment": moment,
        "perplexed": perplexed,
        "short_name": short_name,
    }
    return environment.get_template("report.html.j2").render(
        study=snapshot,
        evidence=evidence,
        figures=_figures(snapshot, evidence),
        front=front,
        front_table=front_table(front) if front else None,
        front_sentence=front_sentence(front) if front else "",
        summaries=[stage_summary(snapshot, view) for view in snapshot.stages],
        values=parameter_values(snapshot.spec, evidence),
        parameters=_parameter_names(snapshot),
        metrics=_metric_names(snapshot),
        cost=study_cost(snapshot),
        versions=versions(snapshot),
        most_lines=MOST_LINES,
        study_file=study_text(snapshot.spec),
        no_adapter=missing_adapter(snapshot, evidence),
        diagnosis=_diagnosis(snapshot),
        rows=rows_seen(snapshot),
        transfer=transfer_of(snapshot),
    )


def parameter_values(spec: StudySpec, evidence: Evidence) -> list[tuple[str, Any, Any]]:
    """List every parameter in which winner and default may differ, with the winner's value and the default's."""
    if evidence.winner is None:
        return []
    sides = [evidence.winner, evidence.default]
    full: list[dict[str, Any]] = []
    for side in sides:
        settings = resolved(spec, side.parameters) if side else None
        full.append(settings.model_dump() if settings else dict(side.parameters) if side else {})
    names = dict.fromkeys([*evidence.winner.parameters, *(evidence.default.parameters if evidence.default else {})])
    return [(name, full[0].get(name), full[1].get(name)) for name in names]


def versions(snapshot: StudySnapshot) -> dict[str, str]:
    """Return what the study ran with: this machine's manager side, and what trials said of theirs in words."""
    here = {name: importlib.metadata.version(name) for name in _PACKAGES}
    said: dict[str, dict[str, None]] = {}
    for view in snapshot.stages:
        for trial in view.trials:
            for name, value in trial.facts.flat().items():
                if isinstance(value, str):
                    said.setdefault(name, {})[value] = None
    theirs = {name: ", ".join(list(values)[:3]) + (", ..." if len(values) > 3 else "") for name, values in said.items()}
    return {**here, "python": platform.python_version(), **theirs}


def rows_seen(snapshot: StudySnapshot) -> list[tuple[str, str]]:
    """Say what rows the trials saw, as the first that tells it did; empty where none does."""
    for trial in (trial for view in snapshot.stages for trial in view.trials):
        data = trial.facts.data
        if data.train is None:
            continue
        lengths = [f"{data.p50} (half of them)", f"{data.p90} (90%)", f"{data.p99} (99%)", f"{data.longest} (longest)"]
        dropped = {
            "cut to length": data.truncated,
            "without anything to learn": data.unsupervised,
            "leaked into another part": data.leaked,
            "repeated in their part": data.repeated,
            "repeating a training row, and kept": data.duplicated,
        }
        said = [f"{count} {what}" for what, count in dropped.items() if count]
        return [
            ("format", data.format or ""),
            ("parts", f"{data.train} for training, {data.validation} for validation, {data.test} for testing"),
            ("tokens of a row, at most", ", ".join(lengths)),
            ("of them", "; ".join(said) or "none is cut, dropped or repeated"),
        ]
    return []


def _diagnosis(snapshot: StudySnapshot) -> list[str]:
    """Say what may be wrong with the runs; empty where they cannot be judged."""
    try:
        return list(study_lines(diagnose_study(snapshot)))
    except (UsageError, ConflictError):
        return []


def _figures(snapshot: StudySnapshot, evidence: Evidence) -> dict[str, str | None]:
    from hpo_service.presentation.report import figures, front_figure, overview_figures, search_figures

    return {
        "history": overview_figures.history(snapshot, evidence.selected_on),
        "importance": overview_figures.importance(importance_of(snapshot)),
        "parallel": overview_figures.parallel(snapshot, evidence.selected_on),
        "carried": overview_figures.carried(snapshot, evidence.selected_on),
        "interval": figures.interval(evidence),
        "seeds": figures.seeds(evidence),
        "bracket": figures.bracket(snapshot, evidence.selected_on),
        "curves": search_figures.curves(snapshot),
        "rates": search_figures.learning_rates(snapshot, evidence.selected_on),
        "front": front_figure.front_figure(front_of(snapshot), snapshot.spec.search.direction, evidence.selected_on),
        "panels": search_figures.parameters(snapshot, evidence.selected_on),
    }


def _metric_names(snapshot: StudySnapshot) -> list[str]:
    return list(dict.fromkeys(name for view in snapshot.stages for trial in view.trials for name in trial.metrics))


def _parameter_names(snapshot: StudySnapshot) -> list[str]:
    return list(dict.fromkeys(name for view in snapshot.stages for trial in view.trials for name in trial.parameters))
