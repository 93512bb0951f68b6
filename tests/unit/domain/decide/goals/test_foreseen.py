"""What is certain of a configuration's costs before it runs."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service.domain.decide.goals import foreseen as module
from hpo_service.domain.decide.goals.foreseen import Barrier, foreseen
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts


def sized(hidden: int) -> ModelFacts:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 1000, "intermediate_size": 4 * hidden}
    shape = ModelShape.read({"model_type": "llama", "hidden_size": hidden, **sizes})
    return ModelFacts(family="llama", hidden_size=hidden, shape=shape)


FACTS = {"small": sized(64), "large": sized(512)}


def spec(limits: dict[str, float], **sections: Any) -> StudySpec:
    built_in = {"name": "s", "model": {"base": "small"}, "data": {"source": "d"}, "search": {"constraints": limits}}
    return StudySpec.model_validate({**built_in, **sections})


def test_an_adapter_grows_with_its_rank_and_what_is_too_large_is_said() -> None:
    look = foreseen(spec({"adapter_mb": 0.1}), FACTS)
    assert look is not None
    # r (d_in + d_out) for q, k, v, o (64 + 64 each) and gate, up, down (64 + 256 each), 2 layers, 4 bytes
    assert pytest.approx(0.0942, abs=1e-4) == 8 * (4 * 128 + 3 * 320) * 2 * 4 / 1e6
    assert look({"lora_rank": 8, "learning_rate": 1e-4}) == ""
    said = "on base small its adapter would take 0.1884 MB, and search.constraints.adapter_mb allows 0.1 MB"
    assert look({"lora_rank": 16, "learning_rate": 1e-4}) == said


def test_an_adapter_that_changes_its_base_is_kept_at_twice_the_rank() -> None:
    look = foreseen(spec({"adapter_mb": 0.1}), FACTS)
    assert look is not None
    assert "0.1884 MB" in look({"lora_rank": 8, "init_lora_weights": "olora"})


def test_a_target_counts_with_the_rank_as_it_is_carried_over() -> None:
    both = spec({"adapter_mb": 0.5}, model={"base": "small", "target": "large"})
    look = foreseen(both, FACTS)
    assert look is not None
    assert look({"lora_rank": 8}).startswith("on target large")


def test_a_model_that_is_trained_whole_is_refused_for_its_memory() -> None:
    look = foreseen(spec({"memory_gb": 0.001}), FACTS)
    assert look is not None
    assert look({"method": "full"}).endswith(
        "GB of memory before its first batch, and search.constraints.memory_gb allows 0.001 GB"
    )
    assert look({"lora_rank": 2, "method": "lora"}) == ""


def test_a_model_from_scratch_has_the_size_that_its_trial_chooses() -> None:
    look = foreseen(spec({"adapter_mb": 1e-6}), FACTS)
    assert look is not None
    assert look({"method": "scratch"}) == ""


@pytest.mark.parametrize(
    "study, facts",
    [
        (spec({"seconds": 1}), FACTS),
        (spec({"adapter_mb": 1}), {}),
        (spec({"adapter_mb": 1}), {"small": ModelFacts(family="x", hidden_size=1)}),
        (
            StudySpec.model_validate(
                {"name": "s", "objective": {"python": "a:b"}, "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}}}
            ),
            FACTS,
        ),
    ],
)
def test_nothing_is_said_where_nothing_can_be_told(study: StudySpec, facts: dict[str, ModelFacts]) -> None:
    assert foreseen(study, facts) is None


def test_a_barrier_lets_through_what_may_run_and_says_what_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = Barrier(lambda found: "too large" if found["x"] == 1 else "")
    assert list(barrier([{"x": 0}, {"x": 1}, {"x": 2}])) == [{"x": 0}, {"x": 2}]
    assert barrier.remark == "a proposal was passed over for what it would cost: too large"
    monkeypatch.setattr(module, "LOOKED_AT", 3)
    assert list(barrier([{"x": 1}] * 5 + [{"x": 0}])) == []
    assert barrier.remark.startswith("4 proposals were passed over for what they would cost")


def test_an_open_barrier_says_nothing() -> None:
    barrier = Barrier(None)
    assert list(barrier([{"x": 1}])) == [{"x": 1}]
    assert barrier.remark == ""
