"""Memory that runs out costs a trial nothing but time, or the trial itself and nothing else."""

import pytest
import torch

from hpo_service.domain.memory.fit import MEMORY_SHARE
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.training.device.faults import is_out_of_memory
from hpo_service.training.run import loaded_models as loaded
from hpo_service.wire.messages import Started
from tests.training.faulty import CPU, CUDA, ERRORS, Faults

# 54 training rows: four optimizer steps of 16 rows, seven micro-batches of 8.
MICRO_BATCHES = range(1, 8)


@pytest.fixture
def faults(monkeypatch):
    return Faults(monkeypatch)


@pytest.fixture(scope="module")
def small(llama, data_file, tmp_path_factory):
    """Curves of runs that started with half the micro-batch, each made once."""
    from tests.training.tiny import Trainee

    trainee, made = Trainee(llama, data_file, tmp_path_factory.mktemp("small")), {}

    def curve(**changes):
        key = str(sorted(changes.items()))
        if key not in made:
            trainee.run(trainee.config(**{"effective_batch": 16, "micro_batch": 4, **changes}), str(len(made)))
            made[key] = [report.value for report in trainee.reports]
        return made[key]

    return curve


def curve_of(trainee):
    return [report.value for report in trainee.reports]


@pytest.mark.parametrize("number", MICRO_BATCHES)
def test_a_run_that_halves_at_any_micro_batch_has_the_curve_of_one_that_started_smaller(trainee, faults, small, number):
    error = ERRORS[number % 3]
    if number % 2:
        faults.forward(lambda count, rows: count == number and rows > 4, error)
    else:
        faults.backward(lambda count: count == number, error)
    outcome = trainee.run(trainee.config(effective_batch=16))
    assert outcome.kind is OutcomeKind.COMPLETE
    assert curve_of(trainee) == pytest.approx(small(), abs=1e-5)
    facts = outcome.facts
    assert (facts.training.micro_batch, facts.training.accumulation, facts.memory.oom_halvings) == (4, 4, 1)
    assert (facts.training.steps, facts.training.steps_planned, facts.training.resumed_at_step) == (4, 4, 0)
    assert outcome.restart
    assert sum(isinstance(message, Started) for message in trainee.messages) == 1


def test_tokens_are_counted_once_although_a_step_was_made_twice(trainee, faults):
    expected = trainee.run(trainee.config(effective_batch=16), "plain").facts.training.tokens
    faults.backward(lambda count: count == 4)
    assert trainee.run(trainee.config(effective_batch=16), "halved").facts.training.tokens == expected


def test_random_numbers_are_those_of_the_smaller_run_from_the_broken_step_on(trainee, faults, small):
    faults.backward(lambda count: count == 2)
    trainee.run(trainee.config(effective_batch=16, lora_dropout=0.2))
    assert curve_of(trainee) == small(lora_dropout=0.2)


def test_halving_goes_on_until_a_micro_batch_fits_also_in_a_later_epoch(trainee, faults, small):
    faults.forward(lambda count, rows: count > 8 and rows > 2)
    outcome = trainee.run(trainee.config(effective_batch=16, epochs=2))
    assert (outcome.facts.training.micro_batch, outcome.facts.memory.oom_halvings) == (2, 2)
    assert curve_of(trainee) == pytest.approx(small(epochs=2), abs=1e-5)
    assert len(curve_of(trainee)) == 8


@pytest.mark.parametrize("step", [1, 3])
def test_an_optimizer_that_broke_off_is_taken_back_to_the_last_checkpoint_or_the_start(trainee, faults, small, step):
    faults.optimizer(lambda count: count == step)
    outcome = trainee.run(trainee.config(effective_batch=16))
    assert outcome.facts.memory.oom_halvings == 1
    assert curve_of(trainee)[-4:] == pytest.approx(small(), abs=1e-5)


def test_weights_that_are_trained_themselves_survive_a_halving(trainee, faults, small):
    faults.backward(lambda count: count == 6)
    outcome = trainee.run(trainee.config(effective_batch=16, method="full", learning_rate=1e-3))
    assert outcome.facts.memory.oom_halvings == 1
    assert curve_of(trainee) == pytest.approx(small(method="full", learning_rate=1e-3), abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"init_lora_weights": "pissa"}, {"data": {"pack_rows": True}, "group_by_length": True}],
    ids=["a base that was moved", "packed rows in order of length"],
)
def test_a_halving_changes_nothing_else_about_a_run(trainee, faults, small, changes):
    faults.backward(lambda count: count == 4)
    outcome = trainee.run(trainee.config(effective_batch=16, **changes))
    assert outcome.facts.memory.oom_halvings == 1
    assert curve_of(trainee) == pytest.approx(small(**changes), abs=1e-5)


def test_what_does_not_fit_row_by_row_is_infeasible_and_the_next_trial_runs(trainee, faults, small):
    with pytest.MonkeyPatch.context() as patch:
        Faults(patch).forward(lambda count, rows: True)
        outcome = trainee.run(trainee.config(effective_batch=16), "bad")
    assert outcome.kind is OutcomeKind.INFEASIBLE
    assert outcome.restart
    assert outcome.reason.startswith("out of memory training on one row of up to ")
    for words in ("at a time, thought to need", "(context and fragmentation 0.60", "shorten data.max_length"):
        assert words in outcome.reason
    assert outcome.reason.endswith(
        "switch activation checkpointing on, lower lora_rank, use an 8-bit optimizer, "
        "hold the base in 4 bits (method qlora), or use a larger device"
    )
    assert outcome.facts.memory.oom_halvings == 3
    assert outcome.facts.memory.over_gb > 0
    assert trainee.reports == []
    assert trainee.run(trainee.config(effective_batch=16, micro_batch=4), "good").kind is OutcomeKind.COMPLETE
    assert curve_of(trainee) == small()


def test_an_evaluation_halves_by_itself(trainee, faults, small):
    tried = faults.evaluation(most_tokens=1000)
    outcome = trainee.run(trainee.config(effective_batch=16, score_test=True))
    assert curve_of(trainee) == pytest.approx(small(), abs=1e-5)
    assert outcome.facts.memory.oom_halvings == 0
    assert outcome.facts.training.micro_batch == 8
    assert outcome.facts.memory.evaluation_tokens <= 1000
    assert outcome.restart
    # only the first evaluation looks for a size that fits; the next four start with it
    assert tried[-5:] == [outcome.facts.memory.evaluation_tokens] * 5
    assert tried[-6] > 1000


def test_a_row_too_long_to_be_evaluated_is_infeasible(trainee, faults):
    faults.evaluation(most_tokens=0)
    outcome = trainee.run(trainee.config(effective_batch=16))
    assert outcome.kind is OutcomeKind.INFEASIBLE
    assert outcome.reason.startswith("out of memory evaluating one row of up to ")


def test_a_base_that_does_not_fit_is_infeasible(trainee, monkeypatch):
    def load(*_, **__):
        raise torch.cuda.OutOfMemoryError(CUDA)

    with monkeypatch.context() as patch:
        patch.setattr(loaded, "load_base", load)
        outcome = trainee.run(trainee.config(), "bad")
    assert outcome.kind is OutcomeKind.INFEASIBLE
    assert outcome.restart
    assert outcome.reason.startswith(f"out of memory loading {trainee.llama} (CUDA out of memory.")
    assert trainee.run(trainee.config(), "good").kind is OutcomeKind.COMPLETE


def test_a_model_too_large_for_the_cap_is_refused_before_it_is_loaded(trainee, monkeypatch):
    monkeypatch.setenv(MEMORY_SHARE, "0.5")
    monkeypatch.setattr(loaded, "load_base", None)
    outcome = trainee.run(trainee.config())
    assert outcome.kind is OutcomeKind.INFEASIBLE
    assert not outcome.restart
    assert outcome.reason.startswith("needs about 0.60 GB for one row of 64 tokens, method lora of rank 4 (context")
    assert ", and 0.50 GB are there: shorten data.max_length" in outcome.reason
    assert outcome.facts.memory.over_gb == pytest.approx(0.1, abs=0.01)


def test_the_largest_micro_batch_that_fits_the_cap_is_planned(trainee, small, monkeypatch):
    # of which 92% are planned with: 8 rows at a time take 0.6034 GB, 4 take 0.6018, the CUDA context 0.6 of it
    monkeypatch.setenv(MEMORY_SHARE, "0.655")
    outcome = trainee.run(trainee.config(effective_batch=16))
    assert outcome.facts.training.micro_batch == 4
    assert curve_of(trainee) == small()
    assert outcome.facts.memory.oom_halvings == 0
    assert not outcome.restart
    assert -0.06 < outcome.facts.memory.over_gb < 0
    assert outcome.facts.memory.estimate_gb < outcome.facts.memory.peak_gb


@pytest.mark.parametrize("cap", ["much", "-1", "nan", "0"])
def test_a_cap_that_is_no_size_is_refused_by_name(trainee, monkeypatch, cap):
    monkeypatch.setenv(MEMORY_SHARE, cap)
    with pytest.raises(Exception, match=f"{MEMORY_SHARE} must be a number of gigabytes above 0, not '{cap}'"):
        trainee.run(trainee.config())


def test_running_out_of_memory_is_told_from_other_errors():
    assert all(is_out_of_memory(error()) for error in ERRORS)
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert is_out_of_memory(RuntimeError(f"nested: {CPU}"))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_out_of_memory(ValueError("out of memory, says a row"))
