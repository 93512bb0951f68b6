"""The process itself: its gradient, what it believes where it was measured, and where it was not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from hpo_service.search.gaussian.process import _distances, _improbability, fitted

OWNERS = np.array([0, 1, 1])
DRAW = np.random.default_rng(3)
ROWS = DRAW.random((12, 3))
VALUES = np.sin(5 * ROWS[:, 0])
VALUES = (VALUES - VALUES.mean()) / VALUES.std()


def test_the_gradient_is_that_of_the_function() -> None:
    distances = _distances(ROWS, ROWS, OWNERS)
    for settings in (np.array([0.0, 0.0, 0.0, -2.0]), np.array([-1.0, 0.7, 0.4, -5.0])):
        off = check_grad(
            lambda at: _improbability(at, distances, VALUES)[0],
            lambda at: _improbability(at, distances, VALUES)[1],
            settings,
        )
        assert off < 1e-4


def test_it_is_sure_where_it_was_measured_and_unsure_elsewhere() -> None:
    process = fitted(ROWS, VALUES, OWNERS)
    mean, deviation = process.predict(ROWS)
    assert np.abs(mean - VALUES).max() < 0.2
    _, far = process.predict(np.full((1, 3), 9.0))
    assert far[0] > 3 * deviation.max()


def test_a_parameter_that_does_not_matter_gets_the_longer_length() -> None:
    settings = fitted(ROWS, VALUES, OWNERS).settings
    assert settings[1] > settings[0]


def test_what_is_believed_makes_sure_and_changes_nothing_else() -> None:
    process = fitted(ROWS, VALUES, OWNERS)
    place = np.array([[0.5, 0.5, 0.5]])
    before, after = process.predict(place), process.believing(place).predict(place)
    assert after[0] == pytest.approx(before[0], abs=1e-6)
    assert after[1][0] < before[1][0]
    assert process.believing(np.empty((0, 3))) is process


def test_settings_that_cannot_be_reckoned_with_are_called_improbable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise np.linalg.LinAlgError

    monkeypatch.setattr(np.linalg, "cholesky", fails)
    value, gradient = _improbability(np.array([0.0, 0.0, 0.0, -2.0]), _distances(ROWS, ROWS, OWNERS), VALUES)
    assert value == 1e10
    assert gradient.tolist() == [0.0] * 4
