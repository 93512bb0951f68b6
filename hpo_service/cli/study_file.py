"""The study file that a command is given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hpo_service.domain.study.finding import Finding
from hpo_service.domain.study.spec import StudySpec
from hpo_service.service.studies.first_look import first_look, refuse_unusable
from hpo_service.service.studies.study_file import read_study_file
from hpo_service.settings import Settings

LOOKING = "looking at rows and models"
MARKS = {"error": "error", "warning": "warning", "unchecked": "note"}
"""What a line about a finding begins with, by its level."""

Quick = Annotated[bool, typer.Option("--quick", help="Do not look at the rows, the tokenizer and the models.")]
Replace = Annotated[
    bool, typer.Option("--replace", help="Take the place of a study of this name that failed without a result.")
]
StudyPath = Annotated[Path, typer.Argument(metavar="FILE", help="The study file (YAML), or builtin:quickstart.")]


def load_study(path: Path, *, warn: bool = True) -> StudySpec:
    """Read the study of a file; with `warn`, its warnings go to standard error.

    Raises:
        StudyFileError: the file cannot be read or is wrong; one line with file, line and key.
    """
    study = read_study_file(path)
    for warning in study.warnings if warn else ():
        sys.stderr.write(f"warning: {path}:{warning}\n")
    return study.spec


def check_text(text: str, path: Path) -> None:
    """Make sure that a text which was made for this path is a study file.

    Raises:
        StudyFileError: it is not; one line with file, line and key.
    """
    from hpo_service.domain.studyfile.reader import read_study
    from hpo_service.service.studies.study_file import surroundings

    read_study(text, str(path), surroundings(path.absolute().parent))


def looked_at(spec: StudySpec) -> list[Finding]:
    """Take a first look at the rows, tokenizer and models of a study; a terminal is told that it takes a while."""
    from hpo_service.cli.rendering.console import console

    with console(stderr=True).status(LOOKING):
        return first_look(spec)


def tell_disk(spec: StudySpec, settings: Settings) -> None:
    """Say on standard error what disk a study takes, as far as that is known."""
    from hpo_service.presentation.sizing.disk import disk_lines

    for line in disk_lines(spec, settings.output, settings.cache, settings.store):
        sys.stderr.write(f"{line}\n")


def require_usable(spec: StudySpec, *, warn: bool = True, tell: bool = False) -> None:
    """Take a first look at a study before work on it.

    With `warn`, what need not stop it goes to standard error; with `tell`, a line that it is being looked at to
    standard output, also where that is no terminal.

    Raises:
        UnusableInputsError: every trial would fail with these rows or models.
    """
    if tell and not sys.stdout.isatty():
        typer.echo(LOOKING)
    found = looked_at(spec)
    for finding in found if warn else ():
        if finding.level != "error":
            sys.stderr.write(f"{MARKS[finding.level]}: {finding}\n")
    refuse_unusable(found)
