"""Notes of studies and trials for optuna-dashboard, as Markdown: verdict and links, reason and diagnosis."""

from __future__ import annotations

import html
import re
from urllib.parse import quote

from hpo_service.domain.trial.states import TrialState
from hpo_service.service.studies.findings.evidence import Evidence
from hpo_service.service.studies.snapshot import StudySnapshot, TrialView

SIGNED = "*Written by hpo-service.*"
"""Last line of every note: one without it is somebody's own, and stays."""
MOST_CHARACTERS = 600
"""Of a reason; the whole one stands on the trial's page."""

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~>-])")


def study_note(snapshot: StudySnapshot, evidence: Evidence, base: str = "") -> str:
    """Say what a study found, with links to its pages under the path `base`."""
    page = f"{base}/studies/{quote(snapshot.name, safe='')}"
    report = f"{base}/v1/studies/{quote(snapshot.name, safe='')}/report.html"
    remarks = [f"- {text(remark)}" for remark in evidence.remarks]
    lines = [f"**{text(str(evidence.verdict))}**: {text(evidence.sentence)}.", *remarks]
    return "\n\n".join(["\n".join(lines), f"[Study]({page}) · [Report]({report})", SIGNED])


def trial_note(study: str, stage: str, trial: TrialView, base: str = "") -> str:
    """Say why a trial ended as it did."""
    page = f"{base}/studies/{quote(study, safe='')}/trials/{stage}/{trial.number}"
    lines = [f"**{trial.state}**: {text(trial.reason)}", *(f"- {text(each)}" for each in diagnosis(trial))]
    return "\n\n".join(["\n".join(lines), f"[Trial]({page})", SIGNED])


def diagnosis(trial: TrialView) -> list[str]:
    """What a reader must know of a trial that did not run to its end, beside the reason."""
    memory, warnings = trial.facts.memory, trial.facts.warnings
    tried = f"{trial.attempt} attempts: {trial.errors} ended with an error, {trial.losses} with their worker"
    over = f"{memory.over_gb:.2f} GB too large for its device" if memory.over_gb is not None else ""
    return [
        *([tried] if trial.attempt > 1 else []),
        *([over] if over and trial.state is TrialState.INFEASIBLE else []),
        *(str(said) for said in (warnings.checkpoint, warnings.checkpoint_refused, warnings.metrics) if said),
    ]


def text(words: str) -> str:
    """Write words so that Markdown and HTML leave them as they are."""
    short = " ".join(words.split())
    short = short if len(short) <= MOST_CHARACTERS else short[: MOST_CHARACTERS - 1] + "…"
    return _MARKUP.sub(r"\\\1", html.escape(short, quote=False))
