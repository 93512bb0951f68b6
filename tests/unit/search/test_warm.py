"""What another study measured, as trials of this one's space and scale."""

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo_service.domain.study.search_space import FloatParameter, SearchSpace
from hpo_service.search.warm import known_before

SPACE = SearchSpace(parameters={"x": FloatParameter(low=0.0, high=1.0)})


def trial(value: float | None, state: TrialState = TrialState.COMPLETE, **params: float) -> FrozenTrial:
    return create_trial(
        state=state,
        params=params,
        distributions={name: FloatDistribution(0.0, 9.0) for name in params},
        value=value,
        intermediate_values={1: 2.0} if value is not None else {},
    )


def test_parameters_are_mapped_by_name_and_what_does_not_fit_is_left_out() -> None:
    others = [
        trial(1.0, x=0.5, y=3.0),
        trial(1.0, x=5.0),
        trial(1.0, y=0.5),
        trial(None, TrialState.RUNNING, x=0.1),
        trial(None, TrialState.FAIL, x=0.1),
    ]
    found = known_before(others, [], SPACE, alike=True)
    assert [each.params for each in found] == [{"x": 0.5}]
    assert found[0].distributions == {"x": FloatDistribution(0.0, 1.0)}


def test_values_of_the_same_thing_stand_as_they_are() -> None:
    own = [trial(value, x=0.1) for value in (10.0, 20.0, 30.0)]
    found = known_before([trial(1.0, x=0.5), trial(3.0, TrialState.PRUNED, x=0.6)], own, SPACE, alike=True)
    assert [each.value for each in found] == [1.0, 3.0]
    assert [each.state for each in found] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_values_of_something_else_are_put_on_our_scale() -> None:
    own = [trial(value, x=0.1) for value in (10.0, 20.0, 30.0)]
    others = [trial(value, x=0.5) for value in (1.0, 2.0, 3.0)]
    found = known_before(others, own, SPACE, alike=False)
    assert [each.value for each in found] == pytest.approx([10.0, 20.0, 30.0])
    assert found[0].intermediate_values[1] == pytest.approx(20.0)


def test_without_a_scale_of_our_own_or_a_spread_of_theirs_nothing_is_stretched() -> None:
    others = [trial(value, x=0.5) for value in (1.0, 2.0)]
    assert [each.value for each in known_before(others, [trial(9.0, x=0.1)], SPACE, alike=False)] == [1.0, 2.0]
    own = [trial(value, x=0.1) for value in (10.0, 20.0, 30.0)]
    assert [each.value for each in known_before([trial(1.0, x=0.5)] * 2, own, SPACE, alike=False)] == [20.0, 20.0]


def test_the_limits_of_another_study_are_not_this_ones() -> None:
    told = {"constraints:seconds": 0.7, "constraints:vram_over_gb": 2.0, "other": 1}
    other = create_trial(
        params={"x": 0.5}, distributions={"x": FloatDistribution(0.0, 1.0)}, value=1.0, system_attrs=told
    )
    (found,) = known_before([other], [], SPACE, alike=True)
    assert dict(found.constraints) == {"vram_over_gb": 2.0}
