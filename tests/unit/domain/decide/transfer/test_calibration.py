"""What earlier studies found between a small and a large model."""

from __future__ import annotations

import pytest

from hpo_service.domain.decide.transfer.calibration import PRIOR, STEEPEST, Calibration, calibrated_exponent


def found(factor: float, small: int = 64, large: int = 256, family: str = "llama", study: str = "a") -> Calibration:
    return Calibration(study, family, small, large, factor)


def test_a_factor_is_a_power_of_the_widths() -> None:
    assert found(0.5).exponent == pytest.approx(0.5)
    assert found(0.25).exponent == pytest.approx(1.0)
    assert found(2.0).exponent == pytest.approx(-0.5)


def test_what_is_believed_counts_as_one_study() -> None:
    assert calibrated_exponent([found(0.25)], "llama")[0] == pytest.approx((PRIOR + 1.0) / 2)
    assert calibrated_exponent([found(0.25)] * 9, "llama")[0] == pytest.approx((PRIOR + 9.0) / 10)


def test_without_studies_of_the_family_or_of_two_widths_the_prior_stands() -> None:
    same_width = found(0.25, large=64)
    for known in ([], [found(0.25, family="qwen2")], [same_width]):
        exponent, words = calibrated_exponent(known, "llama")
        assert exponent == PRIOR
        assert "no earlier study" in words


def test_one_wild_study_carries_nobody_off() -> None:
    exponent, words = calibrated_exponent([found(1e-6, study="wild"), found(0.5, study="tame")], "llama")
    assert exponent == pytest.approx((PRIOR + STEEPEST + 0.5) / 3)
    assert words == "learned from wild, tame"
