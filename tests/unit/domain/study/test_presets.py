"""The named search spaces that people start from."""

from __future__ import annotations

import pytest

from hpo_service.domain.study.hyperparameters import SEARCHABLE, Hyperparameters
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.presets import PRESETS
from hpo_service.domain.study.search_space import CategoricalParameter, FloatParameter, ParameterValue, SearchSpace
from hpo_service.domain.study.sections.space import SpaceSpec
from hpo_service.domain.study.sources import Surroundings
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.advice import advise


def ends(preset: str) -> list[dict[str, ParameterValue]]:
    """Return the lowest and the highest configuration of a preset."""
    low: dict[str, ParameterValue] = {}
    high: dict[str, ParameterValue] = {}
    for name, parameter in PRESETS[preset].parameters.items():
        if isinstance(parameter, CategoricalParameter):
            low[name], high[name] = parameter.choices[0], parameter.choices[-1]
        else:
            low[name], high[name] = parameter.low, parameter.high
    return [low, high]


def test_the_study_file_offers_every_preset() -> None:
    assert list(PRESETS) == SpaceSpec.model_json_schema()["properties"]["preset"]["enum"]


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_has_a_reason_and_a_space(preset: str) -> None:
    assert PRESETS[preset].reason
    assert SearchSpace(parameters=PRESETS[preset].parameters).parameters.keys() <= SEARCHABLE


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_proposes_configurations_that_can_be_trained(preset: str) -> None:
    for values in ends(preset):
        trained = Hyperparameters().with_values(values)
        assert all(getattr(trained, name) == value for name, value in values.items())


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "none"])
def test_a_preset_for_its_method_draws_no_warning_and_no_refusal(preset: str) -> None:
    method = next((name for name, each in METHODS.items() if each.preset == preset), "lora")
    spec = StudySpec.model_validate(
        {
            "name": "x",
            "model": {"base": "a/b"},
            "data": {"source": "c/d"},
            "space": {"preset": preset},
            "training": {"method": method},
            "search": {"budget": {"trials": 30}, "sampler": "random"},
        }
    )
    nowhere = Surroundings(absolute=str, exists=lambda _: False, architecture=lambda _: None)
    warnings = [text for path, text in advise(spec, nowhere) if path[-1] != "trials"]
    assert [text for text in warnings if not text.startswith("is searched too")] == []


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "none"])
def test_learning_rates_are_searched_by_their_logarithm(preset: str) -> None:
    rate = PRESETS[preset].parameters["learning_rate"]
    assert isinstance(rate, FloatParameter)
    assert rate.log


def test_the_default_learning_rate_lies_in_the_lora_presets() -> None:
    for preset in ("lora", "lora-schedules", "minimal"):
        low, high = (values["learning_rate"] for values in ends(preset))
        assert isinstance(low, float)
        assert isinstance(high, float)
        assert low < Hyperparameters().learning_rate < high
