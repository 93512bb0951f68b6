"""What a study's trials will need: the ends of its space, and what fits."""

import pytest

from hpo_service.domain.decide.memory_outlook import memory_outlook
from hpo_service.domain.memory.estimate import estimate
from hpo_service.domain.study.spec import StudySpec
from tests.unit.domain.memory.test_estimate import LLAMA_8B


def spec(**sections):
    given = {"name": "s", "model": {"base": "a/b", "target": "a/c"}, "data": {"source": "a/d"}, **sections}
    return StudySpec.model_validate(given)


def test_the_ends_of_the_space_are_its_smallest_and_its_largest_trial():
    outlook = memory_outlook(spec(), LLAMA_8B, target=False)
    assert (outlook.smallest.rank, outlook.largest.rank) == (4, 32)
    assert estimate(outlook.smallest).total_gb < estimate(outlook.largest).total_gb
    assert outlook.largest.length == 512
    assert outlook.largest.checkpointing


def test_ranks_are_carried_over_to_the_target():
    study = spec(transfer={"rank_factor": 4, "rank_cap": 48})
    outlook = memory_outlook(study, LLAMA_8B, target=True)
    assert (outlook.smallest.rank, outlook.largest.rank) == (16, 48)


def test_a_base_in_shares_is_divided_among_the_gpus_of_a_trial():
    study = spec(execution={"gpus_per_trial": 4, "sharding": "fsdp"}, training={"effective_batch": 16})
    outlook = memory_outlook(study, LLAMA_8B, target=False)
    assert (outlook.largest.shards, outlook.largest.micro_batch) == (4, 4)


def test_models_from_scratch_are_left_out():
    space = {"preset": "none", "parameters": {"method": {"choices": ["lora", "scratch"]}}}
    outlook = memory_outlook(spec(space=space, model={"base": "a/b"}), LLAMA_8B, target=False)
    assert outlook.smallest.method == outlook.largest.method == "lora"


def test_of_an_own_objective_nothing_can_be_said():
    own = StudySpec.model_validate(
        {"name": "s", "objective": {"python": "a:b"}, "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}}}
    )
    assert memory_outlook(own, LLAMA_8B, target=False) is None


@pytest.mark.parametrize("capacity, rows", [(15.0, None), (19.0, 1), (200.0, 8)])
def test_the_micro_batch_is_what_fits_the_largest_trial(capacity, rows):
    assert memory_outlook(spec(), LLAMA_8B, target=False).micro_batch_on(capacity) == rows
