"""What trials tell of their memory reaches the sampler, and the trials after them."""

from typing import Any

import pytest

from hpo_service.domain.memory.fit import memory_case
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.states import TrialState

GPU = {"device": "NVIDIA H100", "memory_estimate_gb": 10.0}


def constraints(bench: Any) -> list[dict[str, float]]:
    trials = bench.service.policy.trials("s/search")
    return [trial.constraints for trial in trials]


def test_the_sampler_hears_by_how_much_a_trial_did_not_fit_and_by_how_much_others_did(bench, trained):
    bench.create(**trained)
    state = bench.end(bench.must_claim(), OutcomeKind.INFEASIBLE, facts={"vram_over_gb": 3.5})
    assert state is TrialState.INFEASIBLE
    bench.complete(bench.must_claim(), facts={"vram_over_gb": -20.0})
    bench.end(bench.must_claim(), OutcomeKind.PRUNED, facts={"vram_over_gb": -1.5})
    bench.complete(bench.must_claim())
    assert constraints(bench) == [{"vram_over_gb": 3.5}, {"vram_over_gb": -20.0}, {"vram_over_gb": -1.5}, {}]


def test_peaks_correct_the_estimates_of_later_trials_of_the_same_model_and_method(bench, trained):
    bench.create(**trained, search={"budget": {"trials": 6}, "pruner": "none"})
    small = memory_case("org/small", "lora")

    def measured(peak: float, of: str = small, **more: Any) -> dict[str, Any]:
        return {**GPU, "peak_memory_gb": peak, "memory_of": of, **more}

    first, second = bench.must_claim(), bench.must_claim()
    assert first.config.memory_correction == 1.0
    bench.complete(first, facts=measured(13.0))
    bench.complete(second, facts=measured(99.0, of=memory_case("org/small", "qlora")))
    third = bench.must_claim()
    assert third.config.memory_correction == pytest.approx(1.3)
    bench.complete(third, facts=measured(99.0, device="cpu"))
    assert bench.must_claim().config.memory_correction == pytest.approx(1.3)


def test_the_target_is_corrected_by_its_own_peaks_from_stage_to_stage(bench, trained):
    study = bench.create(**trained, search={"budget": {"trials": 2}, "pruner": "none"})
    bench.service.queue.describe("s", trained.facts)
    corrections: dict[str, set[float]] = {}
    while (assignment := bench.claim()) is not None or bench.service.stages.advance(study.id):
        if assignment is None:
            continue
        corrections.setdefault(assignment.stage, set()).add(round(assignment.config.memory_correction, 3))
        case = memory_case(assignment.config.model_name, assignment.config.training.method)
        peak = 12.0 if assignment.config.model_name == "org/large" else 8.0
        bench.complete(assignment, 1.0, facts={**GPU, "peak_memory_gb": peak, "memory_of": case})
    assert corrections == {"search": {1.0, 0.8}, "verify": {1.0, 1.2}, "confirm": {1.2}}


def test_an_own_objective_is_not_asked_for_its_memory(bench):
    bench.create()
    bench.complete(bench.must_claim(), facts={**GPU, "peak_memory_gb": 13.0, "memory_of": memory_case(None, "lora")})
    assert bench.must_claim().config.memory_correction == 1.0
