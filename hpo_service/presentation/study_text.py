"""A study's specification as the YAML text people write."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML

from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.sweepfile.translation import Translated


def study_text(spec: StudySpec) -> str:
    """Return what the study file gave, as YAML that can be run again."""
    return yaml_text(spec.model_dump(mode="json", exclude_unset=True))


def translated_text(found: Translated, source: str) -> str:
    """Return the study file that was made of a sweep file; what is otherwise in it stands above, in comments."""
    head = [f"Made of {source}, a sweep file of Weights & Biases.", *(f"line {remark}" for remark in found.remarks)]
    return "".join(f"# {' '.join(line.split())}\n" for line in head) + yaml_text(found.study)


def yaml_text(document: Any) -> str:
    """Write a document as YAML in block style, its keys in the order given."""
    writer = YAML()
    writer.width = 110
    writer.indent(mapping=2, sequence=4, offset=2)
    buffer = io.StringIO()
    writer.dump(document, buffer)
    return buffer.getvalue()
