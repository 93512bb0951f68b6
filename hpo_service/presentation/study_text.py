"""A study's specification as the YAML text people write."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.draft import Draft, KeyPath
from hpo_service.domain.sweepfile.translation import Translated


def study_text(spec: StudySpec) -> str:
    """Return what the study file gave, as YAML that can be run again."""
    return yaml_text(spec.model_dump(mode="json", exclude_unset=True))


def translated_text(found: Translated, source: str) -> str:
    """Return the study file that was made of a sweep file; what is otherwise in it stands above, in comments."""
    head = [f"Made of {source}, a sweep file of Weights & Biases.", *(f"line {remark}" for remark in found.remarks)]
    return "".join(f"# {' '.join(line.split())}\n" for line in head) + yaml_text(found.study)


def drafted_text(draft: Draft, command: str = "") -> str:
    """Return a drafted study file; the reason of each choice stands above it, the command that made it on top."""
    return (drafted_head(command) if command else "") + yaml_text(_commented(draft.document, (), draft.reasons))


def drafted_head(command: str) -> str:
    """The first line of a study file that a command wrote."""
    return f"# Written by `{command}`. Change what you like; `hpo-service study schema` knows every key.\n"


def _commented(part: dict[str, Any], path: KeyPath, reasons: Mapping[KeyPath, str]) -> CommentedMap:
    found = CommentedMap()
    for key, value in part.items():
        here = (*path, key)
        below = any(there[: len(here)] == here and there != here for there in reasons)
        found[key] = _commented(value, here, reasons) if isinstance(value, dict) else value
        if isinstance(value, dict) and not below and here in reasons:
            found[key].fa.set_flow_style()
        if here in reasons:
            found.yaml_set_comment_before_after_key(key, before=reasons[here], indent=2 * len(path))
    return found


def yaml_text(document: Any) -> str:
    """Write a document as YAML in block style, its keys in the order given."""
    writer = YAML()
    writer.width = 110
    writer.indent(mapping=2, sequence=4, offset=2)
    buffer = io.StringIO()
    writer.dump(document, buffer)
    return buffer.getvalue()
