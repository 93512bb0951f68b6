"""A best value at the edge of a range comes with how far to widen it."""

import pytest

from hpo_service.domain.advise.edge import widened
from hpo_service.domain.study.search_space import SearchSpace

LOG = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}


def told(parameter, value, name="learning_rate"):
    space = SearchSpace.model_validate({"parameters": {name: parameter}})
    return dict(widened(space, {} if value is None else {name: value}))


@pytest.mark.parametrize(
    "value, words", [(1.1e-4, "widen it to low 2.5e-05"), (9.5e-3, "the edge of its range, 0.0001 to 0.01")]
)
def test_the_range_goes_on_four_times_further(value, words):
    assert words in told(LOG, value)["learning_rate"]


@pytest.mark.parametrize(
    "parameter, value",
    [
        (LOG, 1e-3),
        (LOG, None),
        (LOG, "text"),
        ({**LOG, "log": False}, 1e-4),
        ({**LOG, "high": 1e-4}, 1e-4),
        ({"type": "categorical", "choices": [1, 2]}, 2),
        ({**LOG, "high": 1.0}, 0.99),
    ],
)
def test_elsewhere_nothing_is_said(parameter, value):
    assert told(parameter, value) == {}


def test_whole_numbers_stay_whole_and_within_what_a_study_file_takes():
    ranks = {"type": "int", "low": 2, "high": 512, "log": True}
    assert "widen it to high 1024" in told(ranks, 500, "lora_rank")["lora_rank"]
    assert "widen it to low 1" in told(ranks, 2, "lora_rank")["lora_rank"]
    assert "widen it to high 2048" in told(ranks, 500, "my_own")["my_own"]
