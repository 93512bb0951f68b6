"""What measured peaks teach, and what the sampler is told of memory."""

import math

import pytest

from hpo_service.domain.decide.measured_memory import measured_correction, vram_over_gb
from hpo_service.domain.trial.facts import RunFacts

GPU = {"device": "NVIDIA H100"}


def test_peaks_correct_the_estimate_by_their_median_ratio():
    peaks = [{**GPU, "peak_memory_gb": peak, "memory_estimate_gb": 10.0} for peak in (11.0, 12.0, 90.0)]
    assert measured_correction([RunFacts.of(each) for each in peaks]) == pytest.approx(1.2)
    assert measured_correction([RunFacts.of(each) for each in peaks[2:]]) == 2.0
    assert measured_correction([]) == 1.0


@pytest.mark.parametrize(
    "facts",
    [
        {"device": "cpu", "peak_memory_gb": 5.0, "memory_estimate_gb": 1.0},
        {"peak_memory_gb": 5.0, "memory_estimate_gb": 1.0},
        {**GPU, "peak_memory_gb": None, "memory_estimate_gb": 1.0},
        {**GPU, "peak_memory_gb": 5.0},
        {**GPU, "peak_memory_gb": 5.0, "memory_estimate_gb": 0.0},
    ],
)
def test_trials_that_measured_nothing_comparable_correct_nothing(facts):
    assert measured_correction([RunFacts.of(facts)]) == 1.0


@pytest.mark.parametrize(
    "over, infeasible, expected",
    [
        (2.5, True, 2.5),
        (-3.0, True, 0.1),
        (math.nan, True, 1.0),
        (None, True, 1.0),
        (-3.0, False, -3.0),
        (0.5, False, 0.0),
        (None, False, None),
        ("much", False, None),
    ],
)
def test_the_sampler_is_told_by_how_much_a_trial_did_not_fit_or_did(over, infeasible, expected):
    assert vram_over_gb(RunFacts.of({"vram_over_gb": over}).memory, infeasible=infeasible) == expected
