"""A first look at a study's rows, tokenizer and models: a child process finds what would fail every trial."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpo_service.domain.study.finding import Finding, Subject, not_here
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sources import BUILTIN, looks_local
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import UnusableInputsError
from hpo_service.service.studies.data_report import ask
from hpo_service.service.studies.model_config import hub_cache
from hpo_service.service.studies.study_file import is_installed

MODULE = "hpo_service.training.look"
ROWS = 200
"""Rows looked at, over all files."""
TRAINER = ("torch", "transformers", "peft", "datasets")


def first_look(spec: StudySpec) -> list[Finding]:
    """Look at what of a study is on this machine, and tell all that is wrong with it, errors first.

    It takes some seconds, and nothing is downloaded. What is not on this machine, or cannot be looked at here, is told
    as `unchecked`. An objective of the user's own has nothing to look at.
    """
    if spec.model is None or spec.data is None:
        return []
    names = list(_named(spec.data, spec.model))
    missing = absent(spec)
    if missing == names:
        return [not_here(subject, name) for subject, name in missing]
    if not all(map(is_installed, TRAINER)):
        remedy = "pip install 'hpo-service[train]'"
        return [_unchecked(f"rows and models were not looked at, since no trainer is installed here: {remedy}")]
    study = spec.model_dump(mode="json", exclude_unset=True)
    status, said, last = ask(MODULE, json.dumps({"study": study, "rows": ROWS}))
    try:
        found = json.loads(said)["findings"]
    except ValueError:
        return [_unchecked(f"rows and models were not looked at: the look ended with status {status}: {last}")]
    return [Finding.model_validate(each) for each in found]


def refuse_unusable(found: Sequence[Finding]) -> None:
    """Refuse a study with whose rows or models every trial would fail.

    Raises:
        UnusableInputsError: there are errors among what was found.
    """
    errors = [str(each) for each in found if each.level == "error"]
    if errors:
        raise UnusableInputsError(errors, [each.model_dump() for each in found])


def _unchecked(what: str) -> Finding:
    return Finding(level="unchecked", subject="machine", what=what)


def absent(spec: StudySpec) -> list[tuple[Subject, str]]:
    """Rows and models of a study that are not on this machine: what its trials would have to fetch from the hub."""
    if spec.model is None or spec.data is None:
        return []
    return [(subject, name) for subject, name in _named(spec.data, spec.model) if not _is_here(subject, name)]


def _named(data: DataSpec, model: ModelSpec) -> Iterator[tuple[Subject, str]]:
    for _, source in data.places():
        yield "data", source
    for name in (model.base, model.target):
        if name is not None:
            yield "model", name


def _is_here(subject: Subject, name: str) -> bool:
    if name.startswith(BUILTIN) or looks_local(name) or Path(name).exists():
        return True
    return any(place.is_dir() for place in _cached(subject, name))


def _cached(subject: Subject, name: str) -> Iterator[Path]:
    """Where the hub's libraries keep a model or a data set that they have downloaded."""
    yield hub_cache() / f"{'datasets' if subject == 'data' else 'models'}--{name.replace('/', '--')}"
    if subject == "data":
        yield Path(os.environ.get("HF_DATASETS_CACHE") or hub_cache().parent / "datasets") / name.replace("/", "___")
