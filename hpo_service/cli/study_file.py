"""The study file that a command is given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hpo_service.domain.study.spec import StudySpec
from hpo_service.service.studies.study_file import read_study_file

StudyPath = Annotated[Path, typer.Argument(metavar="FILE", help="The study file (YAML).")]


def load_study(path: Path, *, warn: bool = True) -> StudySpec:
    """Read the study of a file; with `warn`, its warnings go to standard error.

    Raises:
        StudyFileError: the file cannot be read or is wrong; one line with file, line and key.
    """
    study = read_study_file(path)
    for warning in study.warnings if warn else ():
        sys.stderr.write(f"warning: {path}:{warning}\n")
    return study.spec
