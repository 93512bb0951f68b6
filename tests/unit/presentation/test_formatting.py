"""Numbers and names as people read them."""

from __future__ import annotations

import pytest

from hpo_service.presentation.formatting import configuration, device_time, duration, measured, number, short_name


@pytest.mark.parametrize(
    "value, text",
    [
        (2e-4, "2e-4"),
        (0.000374, "3.7e-4"),
        (1e-10, "1e-10"),
        (0.0, "0"),
        (0.05, "0.05"),
        (0.123456, "0.123"),
        (16, "16"),
        (1.0, "1"),
        (-0.001, "-1e-3"),
        (12345.6, "1.23e+04"),
        (True, "True"),
        ("cosine", "cosine"),
    ],
)
def test_values_are_short(value: object, text: str) -> None:
    assert number(value) == text


def test_measured_values_have_four_decimals_or_a_dash() -> None:
    assert [measured(v) for v in (2.5, None, 1e9, -0.12345)] == ["2.5000", "–", "1e+09", "-0.1235"]


def test_a_configuration_is_one_line_with_short_names() -> None:
    assert configuration({"learning_rate": 2e-4, "lora_rank": 8, "depth": 3}) == "lr 2e-4, r 8, depth 3"
    assert short_name("depth") == "depth"


@pytest.mark.parametrize(
    "seconds, text", [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (3660, "1 h 01 min")]
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_device_time_is_in_decimal_hours_from_one_hour_on() -> None:
    assert [device_time(s) for s in (90, 3599, 5400, 720_000)] == ["1 min 30 s", "59 min 59 s", "1.5 h", "200.0 h"]
