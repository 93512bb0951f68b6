"""torch compiles what packed trials do where that is faster, and only then; the numbers are the same."""

import logging

import pytest
import torch

from hpo_service.errors import TrialError
from hpo_service.training.engines.packed import probe
from hpo_service.training.engines.packed.compiled import layers_of
from hpo_service.training.engines.packed.pack import Pack
from hpo_service.training.engines.packed.probe import PackSize, try_compiling

ASKED = PackSize(2, "the study asks for 2", as_asked=True)


@pytest.fixture
def on_gpu(monkeypatch):
    """Have the probe think that a GPU is there, and that a trial is long; give it what ticks cost and say."""
    monkeypatch.setattr(probe, "can_compile", lambda base: True)
    monkeypatch.setattr(probe, "LONG_SECONDS", 0.0)
    asked = []

    def given(plain, compiled):
        def ticks(job, slots, clock, *, compiled=False):
            asked.append(compiled)
            found = answers[compiled]
            if isinstance(found, Exception):
                raise found
            return probe._Ticks(*found)

        answers = {False: plain, True: compiled}
        monkeypatch.setattr(probe, "_packed_ticks", ticks)
        return asked

    return given


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_compiled_layers_give_the_losses_and_gradients_of_the_plain_ones(workshop, monkeypatch, dropout):
    """Through the compiler's front end and its differentiation; what it makes kernels of needs a GPU."""
    inductor = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, dynamic: inductor(f, dynamic=dynamic, backend="aot_eager"))
    job = workshop.job(workshop.config(lora_dropout=dropout))
    found = []
    for compiled in (False, True):
        pack = Pack(job.base, job.rows, compiled=compiled)
        slots = [pack.admit(job, 2) for _ in range(2)]
        sums = pack.forward_backward([slot.share() for slot in slots])
        found.append((sums.clone(), pack.stack.grad.clone()))
        pack.close()
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-8)
    assert not any("forward" in layer.__dict__ for layer in layers_of(job.base.model))


def test_where_it_is_faster_and_equal_packs_are_compiled_and_the_reason_says_so(workshop, on_gpu):
    asked = on_gpu((0.15, [(2.0, 1.0)]), (0.10, [(2.0001, 1.00001)]))
    found = try_compiling(workshop.job(), ASKED, clock=iter(range(9)).__next__)
    assert found == PackSize(
        2, "the study asks for 2; compiled by torch 1.50x as fast (1 s to compile)", as_asked=True, compiled=True
    )
    assert asked == [False, True]


@pytest.mark.parametrize(
    "compiled, reason",
    [
        ((0.149, [(2.0, 1.0)]), "compiled by torch 1.01x as fast (1 s to compile): not done"),
        ((0.10, [(2.0, 1.2)]), "compiled, they would differ by 0.2: not done"),
        ((0.10, [(2.0, float("nan"))]), "compiled, they would differ by nan: not done"),
        (RuntimeError("no C compiler"), "torch cannot compile them here (RuntimeError)"),
    ],
)
def test_where_it_is_not_they_stay_as_they_are_with_the_reason(workshop, on_gpu, compiled, reason, caplog):
    on_gpu((0.15, [(2.0, 1.0)]), compiled)
    with caplog.at_level(logging.ERROR):
        found = try_compiling(workshop.job(), ASKED, clock=iter(range(9)).__next__)
    assert found == PackSize(2, f"the study asks for 2; {reason}", as_asked=True)


def test_an_error_of_the_trial_s_own_is_its_own_here_too(workshop, on_gpu):
    on_gpu((0.15, [(2.0, 1.0)]), TrialError("its rows are gone"))
    with pytest.raises(TrialError, match="its rows are gone"):
        try_compiling(workshop.job(), ASKED)


def test_short_trials_and_single_ones_are_not_held_up_by_a_compiler(workshop, on_gpu, monkeypatch):
    asked = on_gpu((0.15, [(2.0, 1.0)]), (0.01, [(2.0, 1.0)]))
    alone = PackSize(1, "packing does not pay here")
    assert try_compiling(workshop.job(), alone) is alone
    assert asked == []
    monkeypatch.setattr(probe, "LONG_SECONDS", 1e6)
    assert try_compiling(workshop.job(), ASKED) is ASKED
    assert asked == [False]


def test_on_a_cpu_nothing_is_tried(workshop):
    assert try_compiling(workshop.job(), ASKED) is ASKED
