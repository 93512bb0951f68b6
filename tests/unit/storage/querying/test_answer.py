"""Values of an answer are the same whichever database gives them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from hpo_service.storage.querying.answer import distinct, plain_row


@pytest.mark.parametrize(
    "value, plain",
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        (Decimal(6), 6),
        (Decimal("6.25"), 6.25),
        (datetime(2026, 1, 31, 9, 30, 0, 500_000, tzinfo=UTC), "2026-01-31 09:30:00.500"),
        (datetime(2026, 1, 31, 10, 30, tzinfo=timezone(timedelta(hours=1))), "2026-01-31 09:30:00.000"),
        (datetime(2026, 1, 31, 9, 30), "2026-01-31 09:30:00.000"),
        (date(2026, 1, 31), "2026-01-31"),
        (b"\x00\xff", "00ff"),
        ({"a": [1, None]}, '{"a": [1, null]}'),
        (timedelta(seconds=1), "0:00:01"),
    ],
)
def test_a_value_is_plain(value, plain):
    assert plain_row((value,)) == (plain,)


@pytest.mark.parametrize("special", ["NaN", "Infinity"])
def test_a_number_that_is_none_is_no_failure(special):
    assert str(plain_row((Decimal(special),))[0]) in ("nan", "inf")


def test_names_are_made_distinct():
    assert distinct(["a", "b", "a", "a_2", "a"]) == ["a", "b", "a_2", "a_2_2", "a_3"]
