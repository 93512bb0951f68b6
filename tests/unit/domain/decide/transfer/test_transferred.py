"""What a verify stage found."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service.domain.decide.selection import Measured
from hpo_service.domain.decide.transfer.transferred import calibration, transferred
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.planned import CARRIED, CONTROL, EXTENDED

RATE = {"preset": "none", "parameters": {"learning_rate": {"low": 1e-5, "high": 1e-2}}}
FACTS = {"small": ModelFacts(family="llama", hidden_size=64), "large": ModelFacts(family="llama", hidden_size=256)}


def study(**sections: Any) -> StudySpec:
    models = {"base": "small", "target": "large"}
    return StudySpec.model_validate({"name": "s", "model": models, "data": {"source": "rows.jsonl"}, **sections})


def small(*values: float) -> list[Measured]:
    return [Measured(i, i, {"learning_rate": 1e-3, "lora_rank": 8}, value) for i, value in enumerate(values)]


def large(*found: tuple[int | None, float, float], role: str = CARRIED) -> list[Measured]:
    """Trials on the target, each with its origin, its multiple of the learning rate and its value."""
    return [
        Measured(50 + i, i, {"learning_rate": 1e-3 * factor, "lora_rank": 16}, value, role=role, origin_id=origin)
        for i, (origin, factor, value) in enumerate(found)
    ]


def test_the_best_on_the_target_tells_how_far_its_learning_rate_moved() -> None:
    found = transferred(study(), small(1.0, 1.1), large((0, 0.5, 2.0), (0, 0.25, 1.9), (1, 0.5, 2.1)))
    assert found is not None
    assert (found.best.trial_id, found.origin.trial_id) == (51, 0)
    assert found.factor == pytest.approx(0.25)
    assert found.ranked == 2
    assert found.correlation is None, "two say nothing of a ranking"
    assert found.control is None


@pytest.mark.parametrize(
    "best, correlation", [((1.0, 2.0, 3.0), 1.0), ((3.0, 2.0, 1.0), -1.0), ((2.0, 2.0, 2.0), None)]
)
def test_configurations_are_ranked_by_both_models(best: tuple[float, ...], correlation: float | None) -> None:
    trials = large(*[(i, factor, value * factor) for i, value in enumerate(best) for factor in (1, 2)])
    found = transferred(study(), small(1.0, 1.1, 1.2), trials)
    assert found is not None
    assert found.correlation == (None if correlation is None else pytest.approx(correlation))


def test_a_trial_beyond_the_bracket_counts_and_the_control_is_told_apart() -> None:
    trials = [*large((0, 1, 2.0)), *large((0, 2, 1.5), role=EXTENDED), *large((None, 1, 1.0), role=CONTROL)]
    found = transferred(study(), small(1.0), trials)
    assert found is not None
    assert found.factor == pytest.approx(2.0)
    assert found.control == 1.0


def test_nothing_was_found_where_nothing_ran_to_its_end_or_came_from_elsewhere() -> None:
    assert transferred(study(), small(1.0), []) is None
    assert transferred(study(), small(1.0), large((7, 1.0, 2.0))) is None


def test_a_calibration_leaves_out_what_the_rank_did() -> None:
    found = transferred(study(), small(1.0), large((0, 0.25, 2.0)))
    assert found is not None
    told = calibration(study(), FACTS, found)
    assert told is not None
    assert (told.study, told.family, told.small, told.large) == ("s", "llama", 64, 256)
    assert told.factor == pytest.approx(0.25 * 2**0.5), "alpha grew with the rank, from 8 to 16"
    fixed = calibration(study(space=RATE, training={"lora_alpha": 16}), FACTS, found)
    assert fixed is not None
    assert fixed.factor == pytest.approx(0.25)
    full = calibration(study(space=RATE, training={"method": "full"}), FACTS, found)
    assert full is not None
    assert full.factor == pytest.approx(0.25)


def test_two_families_or_unknown_models_calibrate_nothing() -> None:
    found = transferred(study(), small(1.0), large((0, 0.25, 2.0)))
    assert found is not None
    assert calibration(study(), {"small": FACTS["small"]}, found) is None
    other = {**FACTS, "large": ModelFacts(family="qwen2", hidden_size=256)}
    assert calibration(study(), other, found) is None
    assert calibration(study(model={"base": "small"}), FACTS, found) is None
