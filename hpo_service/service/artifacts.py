"""What optuna-dashboard lists as artifacts: the adapters that lie on this machine, and the study's report."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hpo_service.errors import NotFoundError
from hpo_service.search.artifact import Artifact
from hpo_service.storage.database import Database
from hpo_service.storage.studies import StageRow, StudyStore
from hpo_service.storage.trial.trials import TrialStore

REPORT = ("report.html", "text/html")
ADAPTER = (("adapter_model.safetensors", "application/octet-stream"), ("adapter_config.json", "application/json"))
"""Files of a folder in PEFT's format that are given out, with their media types; no others are, whatever lies there."""

_ID = re.compile(r"([0-9a-f]{1,12})(?:-([0-9]))?")


@dataclass(frozen=True)
class ArtifactSource:
    """Where an artifact comes from: a file, or without one the report of a study."""

    study: str
    file: Path | None = None


@dataclass(frozen=True)
class Artifacts:
    """Finds artifacts. An id is a stage's number in hexadecimal, or a trial's and which of its files."""

    db: Database
    studies: StudyStore
    trials: TrialStore

    def of_stage(self, stage: StageRow) -> dict[int | None, list[Artifact]]:
        """Return the artifacts of a stage's trials by number, and at None its own; for an open transaction."""
        found: dict[int | None, list[Artifact]] = {None: [Artifact(f"{stage.id:x}", *REPORT)]}
        if stage.rule.keeps_adapter:
            for trial in self.trials.list(stage.study_id, stage.id):
                if trial.adapter is not None and trial.number is not None:
                    found[trial.number] = list(_files(trial.id, Path(trial.adapter)))
        return found

    def find(self, artifact_id: str) -> ArtifactSource:
        """Say where an artifact comes from.

        Raises:
            NotFoundError: the id is none of ours, or what it stood for is gone or on another machine.
        """
        parts = _ID.fullmatch(artifact_id)
        if parts is None:
            raise NotFoundError(f"there is no artifact {artifact_id!r}")
        number, which = int(parts[1], 16), parts[2]
        with self.db.transaction(read_only=True):
            if which is None:
                study, _ = self.studies.of_stage(number)
                return ArtifactSource(study.name)
            trial = self.trials.get(number)
            study, _ = self.studies.of_stage(trial.stage_id)
        if trial.adapter is None or int(which) >= len(ADAPTER):
            raise NotFoundError(f"there is no artifact {artifact_id!r}")
        file = Path(trial.adapter) / ADAPTER[int(which)][0]
        if not _plain(file):
            raise NotFoundError(f"the adapter is not on this machine: look for {trial.adapter}")
        return ArtifactSource(study.name, file)


def _files(trial_id: int, folder: Path) -> Iterable[Artifact]:
    for which, (name, media_type) in enumerate(ADAPTER):
        if _plain(folder / name):
            yield Artifact(f"{trial_id:x}-{which}", name, media_type)


def _plain(file: Path) -> bool:
    """A link could lead anywhere on the server's machine; and a folder that may not be read is as good as elsewhere."""
    try:
        return file.is_file() and not file.is_symlink()
    except OSError:
        return False
