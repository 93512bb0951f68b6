"""Stages of the cheaper protocols: quick, fine and recheck."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.decide.planning.narrow import narrowed, plan_narrowed
from hpo_service.domain.decide.planning.plan import Plan, Results
from hpo_service.domain.decide.planning.quick import APART, LONGER_WARMUP, plan_quick
from hpo_service.domain.decide.planning.recheck import plan_recheck
from hpo_service.domain.decide.selection import Measured
from hpo_service.domain.decide.transfer.row_share import ROWS_EXPONENT
from hpo_service.domain.study.protocol import FINE, QUICK, QUICK_SHARE, RECHECK
from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    ParameterValue,
    SearchSpace,
)
from hpo_service.domain.study.spec import StudySpec

FOUR_TIMES = 4**ROWS_EXPONENT
RANGE = {"parameters": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}}


def study(**sections: Any) -> StudySpec:
    given = {"name": "s", "model": {"base": "small"}, "data": {"source": "rows.jsonl"}, **sections}
    return StudySpec.model_validate(given)


def ended(plan: Plan | None, *values: float, start: int = 0) -> list[Measured]:
    """The trials of a plan with what they measured; NaN is one that was lost."""
    assert plan is not None
    return [
        Measured(
            start + i,
            start + i,
            dict(trial.parameters),
            value,
            not math.isnan(value),
            trial.label,
            trial.role,
            trial.origin_id,
            trial.share,
        )
        for i, (trial, value) in enumerate(zip(plan.trials, values, strict=True))
    ]


def quick(spec: StudySpec, so_far: Sequence[Measured] = ()) -> Plan | None:
    return plan_quick(QUICK, spec, Results("", [], {}, so_far))


# quick


def test_three_rates_over_one_order_of_magnitude_come_first_on_a_part_of_the_rows() -> None:
    plan = quick(study())
    assert plan is not None
    assert [trial.parameters["learning_rate"] for trial in plan.trials] == pytest.approx(
        [2e-4 / APART, 2e-4, 2e-4 * APART]
    )
    assert {trial.share for trial in plan.trials} == {QUICK_SHARE}


@pytest.mark.parametrize("sections, middle", [({"space": RANGE}, 1e-3), ({"training": {"learning_rate": 5e-5}}, 5e-5)])
def test_they_lie_around_what_the_study_says(sections: dict[str, Any], middle: float) -> None:
    spec = (
        study(**sections)
        if "space" in sections
        else study(**sections, space={"preset": "none", "parameters": {}} | OTHER)
    )
    plan = quick(spec)
    assert plan is not None
    assert plan.trials[1].parameters["learning_rate"] == pytest.approx(middle)


OTHER = {"parameters": {"weight_decay": {"low": 0.0, "high": 0.1}}}


def test_then_rank_and_double_rank_are_run_in_full_at_the_best_rate() -> None:
    spec = study()
    first = ended(quick(spec), 1.2, 1.1, 1.3)
    plan = quick(spec, first)
    assert plan is not None
    plain, doubled = plan.trials
    rate = 2e-4 * 5**ROWS_EXPONENT
    assert plain.parameters == {"learning_rate": pytest.approx(rate), "lora_rank": 16}
    assert doubled.parameters == {"learning_rate": pytest.approx(rate / math.sqrt(2)), "lora_rank": 32}
    assert (plain.share, plain.origin_id) == (1.0, 1)
    assert quick(spec, first + ended(plan, 1.0, 0.9, start=3)) is None, "no rate was lost: 5 runs are enough"


def test_a_longer_warm_up_is_tried_where_a_higher_rate_was_lost() -> None:
    spec = study()
    first = ended(quick(spec), 1.2, 1.1, math.nan)
    second = ended(quick(spec, first), 1.0, 0.9, start=3)
    plan = quick(spec, first + second)
    assert plan is not None
    [longer] = plan.trials
    assert longer.parameters == {**second[1].parameters, "warmup_ratio": LONGER_WARMUP}
    assert "was lost: a warm-up of 10% is tried" in longer.reason
    assert quick(spec, first + second + ended(plan, 0.8, start=5)) is None
    warm = study(training={"warmup_ratio": 0.2}, space={"preset": "none", **RANGE})
    first = ended(quick(warm), 1.2, 1.1, math.nan)
    assert quick(warm, first + ended(quick(warm, first), 1.0, 0.9, start=3)) is None


def test_without_a_rate_or_a_rank_that_ran_to_its_end_nothing_follows() -> None:
    spec = study()
    lost = ended(quick(spec), math.nan, math.nan, math.nan)
    assert quick(spec, lost) is None
    first = ended(quick(spec), 1.2, 1.1, math.nan)
    assert quick(spec, first + ended(quick(spec, first), math.nan, math.nan, start=3)) is None


def test_full_fine_tuning_has_no_rank_to_double() -> None:
    spec = study(training={"method": "full"}, space={"preset": "none", **RANGE})
    plan = quick(spec, ended(quick(spec), 1.2, 1.1, 1.3))
    assert plan is not None
    assert [list(trial.parameters) for trial in plan.trials] == [["learning_rate"]]


# recheck


def test_the_best_of_a_share_run_on_all_rows_with_the_rate_for_as_many() -> None:
    found = [
        Measured(7, 0, {"learning_rate": 1e-3}, 1.1, share=0.25),
        Measured(8, 1, {"learning_rate": 1e-2}, 1.0, share=0.25),
    ]
    plan = plan_recheck(RECHECK, study(space=RANGE, transfer={"top": 1}), Results("proxy", found, {}))
    assert plan is not None
    [trial] = plan.trials
    assert trial.parameters == {"learning_rate": pytest.approx(1e-2 * FOUR_TIMES)}
    assert (trial.label, trial.origin_id, trial.share) == ("proxy #1", 8, 1.0)
    assert "x 4^-0.26 for 4 times the rows" in trial.reason
    again = Results("proxy", found, {}, ended(plan, 0.9))
    assert plan_recheck(RECHECK, study(space=RANGE), again) is None
    assert plan_recheck(RECHECK, study(space=RANGE), Results("proxy", [], {})) is None


# fine


def test_the_best_run_first_in_the_space_around_them() -> None:
    found = [Measured(i, i, {"learning_rate": 1e-3 * 2**i}, 1.0 + i, share=0.25) for i in range(3)]
    plan = plan_narrowed(
        FINE, study(space={"preset": "none", **RANGE}, search={"budget": {"trials": 8}}), Results("coarse", found, {})
    )
    assert plan is not None
    assert [trial.label for trial in plan.trials] == ["coarse #0", "coarse #1", "coarse #2"]
    assert plan.trials[0].parameters["learning_rate"] == pytest.approx(1e-3 * FOUR_TIMES)
    rate = plan.space.parameters["learning_rate"]
    assert isinstance(rate, FloatParameter)
    beyond = 100**0.125
    assert rate.low == pytest.approx(1e-3 * FOUR_TIMES / beyond)
    assert rate.high == pytest.approx(4e-3 * FOUR_TIMES * beyond)
    assert all(trial.dedupe_key for trial in plan.trials)


def test_a_rate_that_is_not_searched_stays_with_the_study() -> None:
    spec = study(space={"preset": "none", **OTHER})
    plan = plan_narrowed(FINE, spec, Results("coarse", [Measured(0, 0, {"weight_decay": 0.05}, 1.0, share=0.25)], {}))
    assert plan is not None
    assert plan.trials[0].parameters == {"weight_decay": 0.05}
    assert plan_narrowed(FINE, spec, Results("coarse", [], {})) is None


SPACE = SearchSpace(
    parameters={
        "a": FloatParameter(low=1e-5, high=1e-2, log=True),
        "b": FloatParameter(low=0.0, high=1.0),
        "c": FloatParameter(low=0.0, high=1.0, step=0.1),
        "d": IntParameter(low=4, high=64, step=4),
        "e": IntParameter(low=1, high=512, log=True),
        "f": CategoricalParameter(choices=["x", "y"]),
        "g": IntParameter(low=0, high=9, when={"f": "x"}),
    }
)
CONFIGURATIONS = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.floats(1e-5, 1e-2),
            "b": st.floats(0, 1),
            "c": st.integers(0, 10).map(lambda i: i * 0.1),
            "d": st.integers(1, 16).map(lambda i: 4 * i),
            "e": st.integers(1, 512),
            "f": st.sampled_from(["x", "y"]),
        }
    ),
    min_size=1,
    max_size=4,
)


@given(CONFIGURATIONS)
def test_the_narrowed_space_holds_its_configurations_and_lies_in_the_old_one(
    found: list[dict[str, ParameterValue]],
) -> None:
    narrow = narrowed(SPACE, found)
    assert narrow.parameters["f"] == SPACE.parameters["f"]
    assert narrow.parameters["g"] == SPACE.parameters["g"], "nobody has it: it stays whole"
    for name in "abcde":
        old, new = SPACE.parameters[name], narrow.parameters[name]
        assert not isinstance(old, CategoricalParameter)
        assert not isinstance(new, CategoricalParameter)
        values = [float(each[name]) for each in found]
        assert old.low <= new.low <= min(values) + 1e-9
        assert max(values) - 1e-9 <= new.high <= old.high
        if old.step is not None:
            assert ((new.low - old.low) / old.step) == pytest.approx(round((new.low - old.low) / old.step), abs=1e-6)


def test_a_narrower_space_keeps_choices_and_what_nothing_was_found_of() -> None:
    space = SearchSpace(
        parameters={
            "rank": CategoricalParameter(choices=[4, 8, 16]),
            "rate": FloatParameter(low=1e-5, high=1e-2, log=True),
            "lonely": FloatParameter(low=0.0, high=1.0),
        }
    )
    found = narrowed(space, [{"rank": 8, "rate": 1e-4}, {"rank": 8, "rate": 2e-4}])
    assert found.parameters["rank"] == space.parameters["rank"]
    assert found.parameters["lonely"] == space.parameters["lonely"]
    rate = found.parameters["rate"]
    assert isinstance(rate, FloatParameter)
    assert 1e-5 < rate.low <= 1e-4 < 2e-4 <= rate.high < 1e-2
