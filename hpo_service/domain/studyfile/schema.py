"""The JSON Schema of study files, fit for editors."""

from __future__ import annotations

from typing import Any

from hpo_service.domain.study.hyperparameters import SEARCHABLE
from hpo_service.domain.study.spec import StudySpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def study_schema() -> dict[str, Any]:
    """Describe every key, its default and its bounds.

    A parameter's `type` may be left out, so one parameter may fit two branches: the branches are `anyOf`, not
    pydantic's `oneOf`. Names under `space.parameters` are suggested, not enforced: an objective has its own.
    """
    schema = _relaxed(StudySpec.model_json_schema())
    parameters = schema["$defs"]["SpaceSpec"]["properties"]["parameters"]
    parameters["properties"] = dict.fromkeys(sorted(SEARCHABLE), parameters["additionalProperties"])
    return {"$schema": DIALECT, **schema, "title": "hpo-service study file"}


def _relaxed(node: Any) -> Any:
    if isinstance(node, list):
        return [_relaxed(item) for item in node]
    if not isinstance(node, dict):
        return node
    relaxed = {key: _relaxed(value) for key, value in node.items() if key != "discriminator"}
    if "oneOf" in relaxed:
        relaxed["anyOf"] = relaxed.pop("oneOf")
    return relaxed
