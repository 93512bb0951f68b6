"""How many trials are worth it is found out by the clock, and said."""

import itertools

import pytest
import torch

from hpo_service.domain.memory.estimate import side_by_side
from hpo_service.domain.memory.fit import PLANNED_SHARE
from hpo_service.training.engines.packed import probe
from hpo_service.training.engines.packed.head import Head
from hpo_service.training.engines.packed.pack import LEAST_TOKENS
from hpo_service.training.engines.packed.probe import PackSize, measure
from tests.training.packed.packs import OOM, capacities, reasons


@pytest.fixture
def times(monkeypatch, workshop):
    """Seconds of a micro-batch alone, and of a tick of so many; None is out of memory."""

    def given(alone, packed):
        asked = []

        def tick(job, slots, clock):
            asked.append(slots)
            if packed[slots] is None:
                raise torch.cuda.OutOfMemoryError(OOM)
            return packed[slots]

        monkeypatch.setattr(probe, "_alone", lambda job, clock: alone)
        monkeypatch.setattr(probe, "_packed", tick)
        return asked

    return given


@pytest.mark.parametrize(
    "limit, packed, slots, tried, reason",
    [
        (8, {2: 1.2, 4: 1.6, 8: 2.4}, 8, [2, 4, 8], "measured on this device, {}2: 1.67x, 4: 2.50x, 8: 3.33x"),
        # a larger pack that is hardly faster than a smaller one is not worth what it costs the sampler
        (8, {2: 1.2, 4: 2.35, 8: 5.0}, 2, [2, 4, 8], "measured on this device, {}2: 1.67x, 4: 1.70x, 8: 1.60x"),
        # nor is one that is far slower than a smaller one a reason to look further
        (8, {2: 1.2, 4: 4.0}, 2, [2, 4], "measured on this device, {}2: 1.67x, 4: 1.00x"),
        # two that gain little say nothing of four
        (4, {2: 1.95, 4: 2.5}, 4, [2, 4], "measured on this device, {}2: 1.03x, 4: 1.60x"),
        (8, {2: 1.2, 4: None}, 2, [2, 4], "measured on this device, {}2: 1.67x, 4: out of memory"),
        (8, {2: 2.6}, 1, [2], "packing does not pay here: {}2: 0.77x"),
        (4, {2: 2.0, 4: 4.1}, 1, [2, 4], "packing does not pay here: {}2: 1.00x, 4: 0.98x"),
        (8, {2: None}, 1, [2], "packing does not pay here: {}2: out of memory"),
        (3, {2: 1.0, 3: 1.0}, 3, [2, 3], "measured on this device, {}2: 2.00x, 3: 3.00x"),
        (6, {2: 1.0, 4: 1.0, 6: 1.0}, 6, [2, 4, 6], "measured on this device, {}2: 2.00x, 4: 4.00x, 6: 6.00x"),
    ],
)
def test_packs_grow_while_that_is_faster_by_enough(workshop, times, limit, packed, slots, tried, reason):
    asked = times(1.0, packed)
    verdict = measure(workshop.job(), limit)
    assert verdict.slots == slots
    assert asked == tried
    assert verdict.reason == reason.format("against one trial after another, ")
    assert verdict.as_asked == (slots == limit)


def test_an_error_that_is_not_of_memory_is_not_taken_for_one(workshop, times, monkeypatch):
    times(1.0, {})
    with pytest.raises(KeyError):
        measure(workshop.job(), 2)


def test_the_real_thing_times_what_it_says_and_leaves_no_trace(workshop):
    base = workshop.solo.loaded.base(workshop.link()).model
    before = {name: value.clone() for name, value in base.state_dict().items()}
    # each micro-batch and each tick takes one second of this clock, whatever is in it
    clock = itertools.count().__next__
    verdict = measure(workshop.job(workshop.config(lora_dropout=0.1, effective_batch=12)), 4, lambda: float(clock()))
    assert verdict == PackSize(
        4, "measured on this device, against one trial after another, 2: 2.00x, 4: 4.00x", as_asked=True
    )
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    assert not any(module._forward_hooks for module in base.modules())
    # a probe is not training: a trial that was measured is what it is without
    config = workshop.config(effective_batch=32, evaluations_per_epoch=2)
    measured = workshop.run({"a": config}, slots=2, measure=True)
    assert measured.curve("a") == pytest.approx([r.value for r in workshop.alone(config)[1]], rel=1e-5)


def test_the_verdict_is_offered_once_for_trials_that_are_alike(workshop, times):
    asked = times(1.0, {2: 1.0, 4: 1.0})
    configs = {k: workshop.config(effective_batch=64, evaluations_per_epoch=1, seed=n) for n, k in enumerate("abcde")}
    crowd = workshop.run(configs, slots=4, measure=True)
    assert asked == [2, 4]
    assert capacities(crowd) == [4]
    assert reasons(crowd) == ["measured on this device, against one trial after another, 2: 2.00x, 4: 4.00x"]


def needed_gb(workshop, trials):
    job = workshop.job()
    chunk = Head(job.base.model).chunk
    return side_by_side(job.need.demand, trials, LEAST_TOKENS, chunk).total_gb / PLANNED_SHARE


def test_no_more_trials_are_tried_than_memory_is_thought_to_hold(workshop, times, monkeypatch):
    asked = times(1.0, {2: 1.0, 3: 1.0})
    capacity = needed_gb(workshop, 3) * 1.0001
    monkeypatch.setenv("HPO_SERVICE_MEMORY_GB", str(capacity))
    configs = {k: workshop.config(effective_batch=64, evaluations_per_epoch=1, seed=n) for n, k in enumerate("abcd")}
    crowd = workshop.run(configs, slots=8, measure=True)
    assert asked == [2, 3]
    assert capacities(crowd) == [3]
    needs = f"4 trials would need about {needed_gb(workshop, 4) * PLANNED_SHARE:.2f} GB of {capacity:.2f}"
    assert reasons(crowd) == [f"measured on this device, against one trial after another, 2: 2.00x, 3: 3.00x; {needs}"]


def test_where_two_do_not_fit_trials_run_alone_and_nothing_is_measured(workshop, times, monkeypatch):
    asked = times(1.0, {})
    monkeypatch.setenv("HPO_SERVICE_MEMORY_GB", str(needed_gb(workshop, 1) * 1.0001))
    crowd = workshop.run({"a": workshop.config(effective_batch=64, evaluations_per_epoch=1)}, slots=8, measure=True)
    assert asked == []
    assert capacities(crowd) == [1]
    assert reasons(crowd)[0].startswith("there is memory for one trial: 2 trials would need about ")
    assert crowd.outcome("a").facts.environment.engine != "packed"
