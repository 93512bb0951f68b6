"""The budget of a whole study: each limit may be left out, and money buys hours."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hpo_service.domain.study.sections.budget import WholeBudgetSpec


@pytest.mark.parametrize(
    "given, hours",
    [
        ({}, None),
        ({"gpu_hours": 3.0}, 3.0),
        ({"money": 10.0, "price_per_hour": 2.5}, 4.0),
        ({"gpu_hours": 3.0, "money": 10.0, "price_per_hour": 2.5}, 3.0),
        ({"price_per_hour": 2.5}, None),
    ],
)
def test_the_first_limit_of_hours_holds(given: dict[str, Any], hours: float | None) -> None:
    assert WholeBudgetSpec(**given).hours == hours


def test_money_needs_a_price() -> None:
    with pytest.raises(ValidationError, match="money needs price_per_hour"):
        WholeBudgetSpec(money=10.0)
