"""From the text of a study file to a study: what is wrong with it as one line, what is doubtful as warnings."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from hpo_service.domain.study.rules.limits import why_no_text
from hpo_service.domain.study.sources import (
    BUILTIN,
    BUILTIN_DATA,
    BUILTIN_MODELS,
    BUILTIN_TOKENIZERS,
    Surroundings,
    is_local,
    looks_local,
)
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.study.spelling import nearest
from hpo_service.domain.studyfile.advice import advise
from hpo_service.domain.studyfile.document import Complaint, Document, KeyPath, parse_document, refuse
from hpo_service.domain.studyfile.messages import complaints_of


@dataclass(frozen=True)
class StudyFile:
    """A study file that can be run: its study, with local paths made absolute, and warnings about it."""

    spec: StudySpec
    warnings: list[Complaint]


def read_study(text: str, file: str, around: Surroundings) -> StudyFile:
    """Read a study file.

    Args:
        text: its content, YAML 1.2.
        file: its name, as messages shall call it.
        around: answers questions about the machine (does this path exist?).

    Raises:
        StudyFileError: something is wrong; one line `FILE:LINE: key: what is wrong; what to do instead`, for
            the first error by line, with the number of others.
    """
    document = parse_document(text, file)
    try:
        spec = StudySpec.model_validate(document.data, strict=True)
    except ValidationError as error:
        raise refuse(file, complaints_of(error, document)) from None
    missing = _missing_sources(spec, document, around)
    if missing:
        raise refuse(file, missing)
    warnings = [document.complaint(path, message) for path, message in advise(spec, around)]
    return StudyFile(_with_absolute_paths(spec, around), sorted(warnings, key=lambda found: found.line))


def _missing_sources(spec: StudySpec, document: Document, around: Surroundings) -> list[Complaint]:
    named: list[tuple[KeyPath, str, tuple[str, ...]]] = []
    if spec.data is not None:
        named.append((("data", "source"), spec.data.source, BUILTIN_DATA))
    if spec.model is not None:
        named.append((("model", "base"), spec.model.base, BUILTIN_MODELS + BUILTIN_TOKENIZERS))
        if spec.model.target is not None:
            named.append((("model", "target"), spec.model.target, BUILTIN_MODELS))
    reasons = [(path, _missing(name, builtin, around)) for path, name, builtin in named]
    return [document.complaint(path, reason) for path, reason in reasons if reason]


def _missing(name: str, builtin: tuple[str, ...], around: Surroundings) -> str | None:
    if name.startswith(BUILTIN):
        if name in builtin:
            return None
        near = nearest(name, builtin)
        return f"there is no {name}; " + (f"the nearest is {near}" if near else f"there is {', '.join(builtin)}")
    path = around.absolute(name)
    if is_local(name, around) and why_no_text(path):
        return f"its absolute path cannot be stored ({why_no_text(path)}); rename the folder it lies in"
    if not looks_local(name) or around.exists(path):
        return None
    places = [*([path] if name != path else []), *([] if name.startswith("/") else [around.start])]
    where = f" ({'; '.join(places)})" if places else ""
    return f"{name} does not exist{where}; correct the path, or write a hub name"


def _with_absolute_paths(spec: StudySpec, around: Surroundings) -> StudySpec:
    """Replace local paths, so that workers started in any folder find the same files."""
    update: dict[str, object] = {}
    if spec.data is not None and is_local(spec.data.source, around):
        source = around.absolute(spec.data.source)
        update["data"] = spec.data.model_copy(update={"source": source})
    if spec.model is not None:
        names = {"base": spec.model.base, "target": spec.model.target}
        paths = {k: around.absolute(v) for k, v in names.items() if v is not None and is_local(v, around)}
        update["model"] = spec.model.model_copy(update=paths)
    return spec.model_copy(update=update) if update else spec
