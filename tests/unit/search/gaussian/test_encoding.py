"""Configurations as rows of numbers."""

from __future__ import annotations

import numpy as np
import pytest

from hpo_service.domain.study.search_space import CategoricalParameter, FloatParameter, IntParameter, SearchSpace
from hpo_service.search.gaussian.encoding import Encoding

SPACE = SearchSpace(
    parameters={
        "rate": FloatParameter(low=1e-4, high=1e-2, log=True),
        "fixed": FloatParameter(low=1.0, high=1.0),
        "depth": IntParameter(low=2, high=6),
        "rank": CategoricalParameter(choices=[4, 64, 16]),
        "kind": CategoricalParameter(choices=["a", "b", "c"]),
        "flag": CategoricalParameter(choices=[True, False], when={"kind": "a"}),
        "only": CategoricalParameter(choices=["x"]),
    }
)


def test_numbers_stand_in_their_range_and_choices_apart() -> None:
    encoding = Encoding(SPACE)
    rows = encoding.rows(
        [
            {"rate": 1e-3, "fixed": 1.0, "depth": 3, "rank": 16, "kind": "a", "flag": True, "only": "x"},
            {"rate": 1e-2, "fixed": 1.0, "depth": 6, "rank": 64, "kind": "b", "only": "x"},
        ]
    )
    assert encoding.parameters == 5
    assert encoding.owners.tolist() == [0, 1, 2, 3, 3, 3, 4, 4]
    assert rows[0, :3] == pytest.approx([0.5, 0.25, 0.5])
    assert rows[1, :3] == pytest.approx([1.0, 1.0, 1.0])
    kinds = rows[:, 3:6]
    assert np.sum((kinds[0] - kinds[1]) ** 2) == pytest.approx(1.0)
    assert rows[1, 6:].tolist() == [0.0, 0.0], "a choice that does not apply is equally far from all of them"


def test_a_number_that_does_not_apply_stands_in_the_middle() -> None:
    assert Encoding(SPACE).rows([{"kind": "b"}])[0, :3].tolist() == [0.5, 0.5, 0.5]


def test_nothing_gives_no_rows() -> None:
    assert Encoding(SPACE).rows([]).shape == (0, 8)
