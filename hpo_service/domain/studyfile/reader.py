"""From the text of a study file to a study: what is wrong with it as one line, what is doubtful as warnings."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from hpo_service.domain.study.rules.limits import why_no_text
from hpo_service.domain.study.sections.data import DataSpec
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
    missing = [*_missing_sources(spec, document, around), *_missing_template(spec, document, around)]
    if missing:
        raise refuse(file, missing)
    warnings = [document.complaint(path, message) for path, message in advise(spec, around)]
    return StudyFile(_with_absolute_paths(spec, around), sorted(warnings, key=lambda found: found.line))


def _missing_sources(spec: StudySpec, document: Document, around: Surroundings) -> list[Complaint]:
    named: list[tuple[KeyPath, str, tuple[str, ...]]] = []
    if spec.data is not None:
        named += [(("data", *place), name, BUILTIN_DATA) for place, name in spec.data.places()]
    if spec.model is not None:
        named.append((("model", "base"), spec.model.base, BUILTIN_MODELS + BUILTIN_TOKENIZERS))
        if spec.model.target is not None:
            named.append((("model", "target"), spec.model.target, BUILTIN_MODELS))
    reasons = [(path, _missing(name, builtin, around)) for path, name, builtin in named]
    return [document.complaint(path, reason) for path, reason in reasons if reason]


def _missing_template(spec: StudySpec, document: Document, around: Surroundings) -> list[Complaint]:
    """A chat template that is neither Jinja nor a file of it: every template that shows a turn holds a brace."""
    written = spec.data.chat_template if spec.data is not None else None
    if written is None or "{" in written:
        return []
    text = around.text(around.absolute(written))
    if text is not None and "{" in text:
        return []
    state = f"{written} cannot be read ({around.start})" if text is None else f"{written} holds no template"
    reason = f"{state}; name a file that holds Jinja, or write the template itself"
    return [document.complaint(("data", "chat_template"), reason)]


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
    if spec.data is not None:
        update["data"] = _data_anywhere(spec.data, around)
    if spec.model is not None:
        names = {"base": spec.model.base, "target": spec.model.target}
        paths = {k: around.absolute(v) for k, v in names.items() if v is not None and is_local(v, around)}
        update["model"] = spec.model.model_copy(update=paths)
    return spec.model_copy(update=update) if update else spec


def _data_anywhere(data: DataSpec, around: Surroundings) -> DataSpec:
    """The same data under absolute paths, with the chat template itself instead of its file."""

    def absolute(names: str | list[str]) -> str | list[str]:
        if isinstance(names, list):
            return [around.absolute(name) if is_local(name, around) else name for name in names]
        return around.absolute(names) if is_local(names, around) else names

    update: dict[str, object] = {"source": absolute(data.source)}
    update |= {part: absolute(given) for part in data.held_out if (given := getattr(data, part))}
    if data.chat_template is not None and "{" not in data.chat_template:
        update["chat_template"] = around.text(around.absolute(data.chat_template))
    return data.model_copy(update=update)
