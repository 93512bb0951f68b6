"""What is found out about a model and rows before their study file is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hpo_service.domain.memory.fit import PLANNED_SHARE
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.data_report import DataReport
from hpo_service.domain.study.families import billions
from hpo_service.domain.study.sources import BUILTIN
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.draft import (
    LARGE_SHARES,
    LONGEST,
    TUNED_METHODS,
    Draft,
    KeyPath,
    Known,
    Wishes,
    draft_study,
    method_asked,
)
from hpo_service.domain.studyfile.reader import read_study
from hpo_service.errors import ChildError, NotFoundError, UsageError
from hpo_service.service.studies.data_report import report_data
from hpo_service.service.studies.memory import memory_of
from hpo_service.service.studies.model_config import read_config
from hpo_service.service.studies.study_file import is_installed, surroundings

BUILTIN_BILLIONS = 0.004
"""Weights of the largest model that the project makes itself; they are made when a study first runs."""
LOOKED_AT = 20_000
"""Rows that are tokenised to see how long they are."""

Write = Callable[[Draft], str]
"""Writes a draft as YAML."""


def draft_of(
    wishes: Wishes,
    *,
    path: Path,
    write: Write,
    memory_gb: float | None,
    cache: Path,
    tell: Callable[[str], object] = lambda _: None,
) -> tuple[Draft, list[str]]:
    """Look at rows, models and memory, and draft the study file; also return what could not be looked at.

    Args:
        wishes: what was asked for.
        path: where the file will lie; relative names in it start there.
        write: as YAML.
        memory_gb: of the smallest GPU that will be used, in GB; None for none.
        cache: folder of what can be made again.
        tell: given lines about what is being done.

    Raises:
        StudyFileError: what was asked for is no study; the line is of the file that would have been written.
        DataError: the rows or the tokenizer cannot be used.
    """

    def study(known: Known, keys: Mapping[KeyPath, object] | None = None) -> StudySpec:
        draft = draft_study(wishes, known)
        for key, value in (keys or {}).items():
            draft.document.setdefault(key[0], {})[key[1]] = value
        return read_study(write(draft), str(path), surroundings(path.absolute().parent)).spec

    first = study(Known())
    rows, missing = _rows(study(Known(), _to_look_at(first)), cache, tell)
    known = Known(rows=rows, billions=_billions(first, cache), memory_gb=memory_gb)
    fits: dict[str, bool] = {}
    if memory_gb is not None and method_asked(wishes) is None:
        for method in TUNED_METHODS:
            held = study(Known(rows=rows), {("training", "method"): method})
            fit = _fits(held, memory_gb, cache)
            if fit is not None:
                fits[method] = fit
    return draft_study(wishes, Known(rows, known.billions, memory_gb, fits)), missing


def _to_look_at(spec: StudySpec) -> dict[KeyPath, object]:
    """Long rows and not too many, so that nothing is cut before its length is known."""
    assert spec.data is not None
    given = spec.data.model_fields_set
    keys: dict[KeyPath, object] = {} if "max_length" in given else {("data", "max_length"): 4 * LONGEST}
    if "split" not in given:
        keys[("data", "split")] = dict(LARGE_SHARES)  # of very few rows a tenth may be none
    return keys if "max_rows" in given else {**keys, ("data", "max_rows"): LOOKED_AT}


def _rows(spec: StudySpec, cache: Path, tell: Callable[[str], object]) -> tuple[DataReport | None, list[str]]:
    try:
        return report_data(spec, cache, tell), []
    except ChildError as error:
        if is_installed("torch"):
            raise
        return None, [f"the rows were not looked at: {error}"]


def _billions(spec: StudySpec, cache: Path) -> float | None:
    """Weights of the model that is searched on, by its configuration, else by its name."""
    assert spec.model is not None
    name = spec.model.base
    if name.startswith(BUILTIN):
        return BUILTIN_BILLIONS
    try:
        shape = ModelShape.read(read_config(name, cache, spec.model.revision_of(name)))
    except NotFoundError:
        shape = None
    if shape is None:
        return billions(name)
    return (shape.linear_weights + shape.table_weights) / 1e9


def _fits(spec: StudySpec, memory_gb: float, cache: Path) -> bool | None:
    """Whether every model of a study fits; None where that cannot be told of one."""
    try:
        models, missing = memory_of(spec, cache)
    except (NotFoundError, UsageError):
        return None
    if missing:
        return None
    return all(model.outlook.micro_batch_on(PLANNED_SHARE * memory_gb) is not None for model in models)
