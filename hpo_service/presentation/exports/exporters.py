"""What a study can be written out as: a table. Its rows load what they write with when they are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line reads this table at every start
    from hpo_service.presentation.exports.tables import Kind
    from hpo_service.service.studies.reader import MeasuredStudy


class Written(StrEnum):
    """When an export is written."""

    ALWAYS = "always"
    """By `run` and `report`, of every study."""
    ON_SUCCESS = "on success"
    """By `run` and `report`, of a study that did not fail."""
    ON_REQUEST = "on request"
    """By `study export --format`."""


@dataclass(frozen=True)
class Exporter:
    """One thing that a study is written out as.

    Attributes:
        about: what a person finds afterwards.
        written: when.
        write: writes it into a folder, which is created; returns the files and folders that it wrote.
    """

    about: str
    written: Written
    write: Callable[[MeasuredStudy, Path], list[Path]]


def export(study: MeasuredStudy, name: str, folder: Path) -> list[Path]:
    """Write an export of a study into a folder, which is created; return the files and folders that it wrote."""
    return EXPORTERS[name].write(study, folder)


def exporters(written: Written) -> list[str]:
    """Return the names of the exports that are written then."""
    return [name for name, exporter in EXPORTERS.items() if exporter.written is written]


def _report(study: MeasuredStudy, folder: Path) -> list[Path]:
    from hpo_service.presentation.report.page import write_report

    return [write_report(study.snapshot, study.evidence, folder)]


def _best(study: MeasuredStudy, folder: Path) -> list[Path]:
    from hpo_service.presentation.exports.best import write_best

    return [write_best(study.snapshot, study.evidence, folder)]


def _tables(kind: Kind) -> Callable[[MeasuredStudy, Path], list[Path]]:
    def write(study: MeasuredStudy, folder: Path) -> list[Path]:
        from hpo_service.presentation.exports.tables import write_tables

        return write_tables(study.snapshot, study.attempts, study.scores, folder, kind)

    return write


EXPORTERS: dict[str, Exporter] = {
    "report": Exporter("report.html: the study on one page", Written.ALWAYS, _report),
    "best": Exporter("best/: the recommended configuration and its adapter", Written.ON_SUCCESS, _best),
    "parquet": Exporter(
        "trials, curves, attempts, scores as tables; needs pyarrow", Written.ON_REQUEST, _tables("parquet")
    ),
    "csv": Exporter("trials, curves, attempts, scores as tables", Written.ON_REQUEST, _tables("csv")),
}
"""By name. A new one is a file beside this one and a row here."""
