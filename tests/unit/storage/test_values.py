"""What goes into columns: finite, plain, exact."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.study.spelling import did_you_mean
from hpo_service.storage.values import finite, json_or_text, lost, packed, plain, restored, unpacked, with_lost

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
)


@given(ANYTHING)
def test_whatever_goes_in_strict_json_can_hold_it(value):
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == plain(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_finite_numbers_are_kept_exactly(value):
    assert finite(value) == value
    assert with_lost("why", value) == "why"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_other_numbers_become_null_and_are_named_in_the_reason(value):
    assert finite(value) is None
    assert with_lost("why", value) == f"why (the value was {value})"


@given(st.floats())
def test_a_value_is_restored_from_what_was_kept_of_it(value):
    assert str(restored(finite(value), lost(value))) == str(value)


def test_a_value_of_which_nothing_was_kept_is_not_a_number():
    assert math.isnan(restored(None, ""))


def test_no_number_is_no_loss():
    assert finite(None) is None
    assert with_lost("why", None) == "why"


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_float32_numbers_come_back_as_they_were(values):
    assert unpacked(packed(values, "<f4"), "<f4") == values


def test_bytes_are_little_endian_everywhere():
    assert packed([1], "<i4") == b"\x01\x00\x00\x00"
    assert packed([1.0], "<f4") == b"\x00\x00\x80\x3f"


@pytest.mark.parametrize(
    "name, said",
    [("quickstar", " (did you mean quickstart?)"), ("llama2", " (did you mean llama-2?)"), ("zzz", "")],
)
def test_the_nearest_names_are_offered(name, said):
    assert did_you_mean(name, ["quickstart", "llama-2", "verify"]) == said


def test_a_text_that_is_no_json_is_read_as_it_is() -> None:
    assert json_or_text('{"a": [1, 1.0]}') == {"a": [1, 1.0]}
    assert json_or_text("{off") == "{off"
