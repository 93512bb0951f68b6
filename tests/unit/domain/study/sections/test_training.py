"""Settings of a run that exclude each other."""

import pytest
from pydantic import ValidationError

from hpo_service.domain.study.sections.training import TrainingSpec


@pytest.mark.parametrize("order", ["curriculum", "progressive"])
def test_rows_have_one_order(order):
    with pytest.raises(ValidationError, match=f"{order} is an order of its own, and so is group_by_length: drop one"):
        TrainingSpec(order=order, group_by_length=True)
    assert TrainingSpec(order=order).order == order
    assert TrainingSpec(group_by_length=True).order == "shuffled"
