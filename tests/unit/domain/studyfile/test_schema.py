"""The JSON Schema says what the models say, in a form that editors can use."""

from __future__ import annotations

import json
from typing import Any

from hpo_service.domain.study.hyperparameters import SEARCHABLE
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.schema import study_schema


def keys(node: Any) -> set[str]:
    if isinstance(node, dict):
        return set(node) | {key for value in node.values() for key in keys(value)}
    return {key for item in node for key in keys(item)} if isinstance(node, list) else set()


def test_it_is_plain_json_with_every_section():
    schema = json.loads(json.dumps(study_schema()))
    assert schema["title"] == "hpo-service study file"
    assert schema["properties"].keys() == StudySpec.model_fields.keys()
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False


def test_a_parameter_without_type_fits_more_than_one_branch_so_branches_do_not_exclude_each_other():
    assert not {"oneOf", "discriminator"} & keys(study_schema())


def test_hyperparameters_are_suggested_and_other_names_allowed():
    parameters = study_schema()["$defs"]["SpaceSpec"]["properties"]["parameters"]
    assert parameters["properties"].keys() == SEARCHABLE
    assert parameters["additionalProperties"]


def test_bounds_and_defaults_are_said():
    rate = study_schema()["$defs"]["TrainingSpec"]["properties"]["learning_rate"]
    assert (rate["default"], rate["exclusiveMinimum"], rate["maximum"]) == (2e-4, 0, 1)
