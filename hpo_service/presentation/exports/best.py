"""`best/`: the adapter of the exported run in PEFT format, its card, and `config.yaml`, which says how it was found."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hpo_service.domain.study.protocol import STAGES
from hpo_service.filestore.store import fetched
from hpo_service.presentation.exports.best_config import best_config
from hpo_service.presentation.exports.model_card import NAME as CARD
from hpo_service.presentation.exports.model_card import model_card
from hpo_service.service.studies.findings.evidence import Evidence
from hpo_service.service.studies.snapshot import StudySnapshot

NAME = "best"
CONFIG = "config.yaml"


def write_best(snapshot: StudySnapshot, evidence: Evidence, folder: Path) -> Path:
    """Write the best configuration and its adapter into `best` in a folder; an older one is replaced whole.

    The new folder is built beside the old one and takes its place by renaming. Without an adapter on this
    machine it holds `config.yaml` alone, which says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / NAME
    work = Path(tempfile.mkdtemp(dir=folder, prefix=f".{NAME}-"))
    try:
        built = work / "new"
        missing = _bring_adapter(snapshot, evidence, built)
        (built / CONFIG).write_text(best_config(snapshot, evidence, missing), "utf-8")
        card = model_card(snapshot, evidence)
        if card is not None and missing is None:
            (built / CARD).write_text(card, "utf-8")
        _open_as(built / CONFIG, built)
        if target.exists():
            target.rename(work / "old")
        built.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _open_as(file: Path, folder: Path) -> None:
    """Give all files of a folder the mode of this one: weights are written so that their owner alone can read them."""
    mode = file.stat().st_mode
    for each in folder.rglob("*"):
        if each.is_file():
            each.chmod(mode)


def _bring_adapter(snapshot: StudySnapshot, evidence: Evidence, folder: Path) -> str | None:
    """Make a folder with the adapter in it, as far as there is one; say why there is none."""
    missing, source, run = missing_adapter(snapshot, evidence), adapter_folder(evidence), evidence.exported
    if source is not None:
        shutil.copytree(source, folder)
        return missing
    if missing and run is not None and run.adapter is not None and "://" in run.adapter:
        missing = fetched(run.adapter, folder)
    folder.mkdir(exist_ok=True)
    return missing


def adapter_folder(evidence: Evidence) -> Path | None:
    """Return the folder of the exported run's adapter, where it has one that can be read here."""
    run = evidence.exported
    if run is None or run.adapter is None:
        return None
    folder = Path(run.adapter)
    return folder if folder.is_dir() and any(folder.iterdir()) else None


def missing_adapter(snapshot: StudySnapshot, evidence: Evidence) -> str | None:
    """Say why `best` holds no adapter; None where it does."""
    run = evidence.exported
    if adapter_folder(evidence) is not None:
        return None
    if snapshot.spec.objective is not None:
        return "an objective of your own keeps what it trains itself"
    if run is None:
        return "no run ended with a finite value"
    if run.adapter is None:
        keeping = {rule.name: rule.runs for rule in STAGES.values() if rule.keeps_adapter}
        those = " and ".join(keeping.values())
        kept = "saved no adapter" if evidence.stage in keeping else f"kept no adapter: only {those} do"
        return f"run {evidence.stage} #{run.number} {kept}"
    return f"the adapter of run {evidence.stage} #{run.number} is not on this machine: look for {run.adapter}"
