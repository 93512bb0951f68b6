"""What a study comes to: its report and best configuration are written, and what was found is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import StudyFailedError
from hpo_service.filestore.store import FileStore
from hpo_service.presentation.documents.verdict import verdict_document
from hpo_service.presentation.exports.exporters import Written, export, exporters
from hpo_service.service.studies.reader import MeasuredStudy, StudyReader


@dataclass(frozen=True)
class Conclusion:
    """A study with what was found, and what was written of it by the name of its export."""

    study: MeasuredStudy
    written: dict[str, Path]

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""
        found = verdict_document(self.study.snapshot, self.study.evidence)
        return {**found, **{name: str(path) for name, path in self.written.items()}}


def publish(conclusion: Conclusion, store: FileStore) -> str:
    """Copy what was written to the store, under the names that it has here; return where it is.

    Raises:
        FileStoreError: it could not be; what was written here stays.
    """
    place, files = conclusion.study.snapshot.name, dict[str, Path]()
    for path in conclusion.written.values():
        within = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        files |= {each.relative_to(path.parent).as_posix(): each for each in within}
    store.publish(place, files)
    return store.shown(place)


def conclude(reader: StudyReader, name: str, output: Path) -> Conclusion:
    """Write report and best configuration of a study, finished or not, into its folder.

    Args:
        reader: reads the study.
        name: of the study.
        output: folder of studies' results.

    Raises:
        NotFoundError: there is no study of this name.
        StudyFailedError: the study ended without a result; its report is written all the same.
    """
    study = reader.measured(name)
    folder = output / name
    written = _write(study, Written.ALWAYS, folder)
    if study.snapshot.state is StudyState.FAILED:
        raise StudyFailedError(
            f"study {name} failed: {study.snapshot.reason}; mend the cause, then `hpo-service study resume {name}` "
            f"and run again; what was measured is in {written['report']}"
        )
    return Conclusion(study, {**written, **_write(study, Written.ON_SUCCESS, folder)})


def _write(study: MeasuredStudy, when: Written, folder: Path) -> dict[str, Path]:
    return {name: export(study, name, folder)[0] for name in exporters(when)}
