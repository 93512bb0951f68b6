"""What a study takes of a disk, from the sizes of its models alone."""

from __future__ import annotations

import pytest

from hpo_service.domain.decide.disk import AT_A_TIME, adapter_gb, checkpoint_gb, disk_of
from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.spec import StudySpec

SIZES = {"hidden_size": 64, "intermediate_size": 256, "heads": 4, "kv_heads": 4, "head_dim": 16, "vocab_size": 1000}
SHAPE = ModelShape(**SIZES, layers=2)
# per layer q, k, v, o of 64 x 64; gate and up of 64 x 256, down of 256 x 64
RANK_8 = 8 * 2 * (4 * (64 + 64) + 3 * (64 + 256))


def study(**more):
    sections = {"name": "s", "model": {"base": "small", "target": "large"}, "data": {"source": "org/rows"}}
    return StudySpec.model_validate({**sections, "space": {"preset": "minimal"}, **more})


@pytest.mark.parametrize("optimizer, state", [("adamw_torch_fused", 8), ("adamw_8bit", 2), ("sgd", 0)])
def test_a_checkpoint_is_the_trained_weights_and_their_optimizer(optimizer, state):
    demand = Demand(shape=SHAPE, rank=8, optimizer=optimizer)
    assert checkpoint_gb(demand) * 1e9 == RANK_8 * (4 + state)
    assert adapter_gb(demand) * 1e9 == RANK_8 * 4


def test_a_study_takes_what_runs_and_what_is_kept():
    small, large = Demand(shape=SHAPE, rank=8), Demand(shape=SHAPE, rank=16)
    use = disk_of(study(confirm={"seeds": 3, "top": 1}), {"small": small, "large": large})
    assert use.running_gb == AT_A_TIME * checkpoint_gb(large)
    assert (use.adapters, use.kept_gb) == (6, pytest.approx(6 * adapter_gb(large)))
    assert use.total_gb(2) == pytest.approx(2 * use.running_gb + use.kept_gb)


def test_adapters_of_the_best_count_and_models_that_are_not_known_do_not():
    spec = study(confirm={"enabled": False}, execution={"keep_adapters": 2})
    assert disk_of(spec, {"small": Demand(shape=SHAPE)}).adapters == 2
    assert disk_of(spec, {}).running_gb == 0.0
