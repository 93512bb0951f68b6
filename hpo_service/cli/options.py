"""Options that many commands share, and the service they lead to."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo_service.errors import HpoServiceError, UsageError
from hpo_service.settings import Settings, person

__all__ = [
    "AsJson",
    "OutputFolder",
    "Quiet",
    "Reason",
    "StorageUrl",
    "StudyName",
    "Telling",
    "Verbose",
    "open_service",
    "person",
]


@dataclass(frozen=True)
class Telling:
    """How much a long command says while it works.

    Attributes:
        as_json: one JSON document at the end, for machines.
        quiet: of all there is to say, the verdict alone.
        verbose: what workers log, besides.

    Raises:
        UsageError: it is to be quiet and verbose.
    """

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise UsageError("--quiet and --verbose contradict each other: choose one")

    @property
    def progress(self) -> bool:
        """Whether people are told what happens meanwhile."""
        return not (self.as_json or self.quiet)


if TYPE_CHECKING:
    from hpo_service.bootstrap import Service

StorageUrl = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="Database: sqlite:///FILE or postgresql://USER@HOST/NAME. Also HPO_SERVICE_STORAGE.",
    ),
]
OutputFolder = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="Where results go. Also HPO_SERVICE_OUTPUT.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]


def study_names(incomplete: str) -> list[str]:
    """Complete the name of a study in a shell; a database that is away offers none."""
    with suppress(HpoServiceError):
        if Settings.read().may_have_database:
            return [name for name in open_service().overview.names() if name.startswith(incomplete)]
    return []


StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Name of the study.", autocompletion=study_names)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the closing verdict, and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print what the workers log, too.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is stored and shown.")]


def open_service(storage: str | None = None, output: Path | None = None) -> Service:
    """Wire the service to the database and folders that options and environment name."""
    from hpo_service.bootstrap import Service

    environment = dict(os.environ)
    if storage is not None:
        environment["HPO_SERVICE_STORAGE"] = storage
    if output is not None:
        environment["HPO_SERVICE_OUTPUT"] = str(output)
    return Service(Settings.read(environment))
