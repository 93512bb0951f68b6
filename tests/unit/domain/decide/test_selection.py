"""Winners are chosen among what ran to the end, and the choice says why."""

from __future__ import annotations

import math

from hpo_service.domain.decide.selection import Measured, choose_group, choose_top, neighbours
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import FloatParameter, SearchSpace


def measured(number: int, value: float, *, lr: float | None = None, complete: bool = True, group: str = "") -> Measured:
    rate = 1e-4 * (number + 1) if lr is None else lr
    return Measured(number + 100, number, {"learning_rate": rate}, value, complete, group)


def test_the_lowest_values_are_chosen_best_first() -> None:
    choice = choose_top([measured(0, 3.0), measured(1, 1.0), measured(2, 2.0)], 2)
    assert [m.number for m in choice.chosen] == [1, 2]
    assert choice.reason == (
        "lowest validation value of 3 complete trials: #1 (1.0000), #2 (2.0000); 0 stopped early left out"
    )


def test_the_highest_values_are_chosen_when_maximising() -> None:
    choice = choose_top([measured(0, 0.3), measured(1, 0.9)], 1, direction=Direction.MAXIMIZE)
    assert [m.number for m in choice.chosen] == [1]
    assert choice.reason.startswith("highest validation value")


def test_a_trial_stopped_early_is_never_chosen_however_good_it_looks() -> None:
    choice = choose_top([measured(0, 0.1, complete=False), measured(1, 2.0)], 3)
    assert [m.number for m in choice.chosen] == [1]
    assert "1 stopped early left out" in choice.reason


def test_values_that_are_not_finite_are_never_chosen() -> None:
    choice = choose_top([measured(0, math.nan), measured(1, -math.inf), measured(2, 5.0)], 3)
    assert [m.number for m in choice.chosen] == [2]


def test_ties_go_to_the_earlier_trial() -> None:
    assert [m.number for m in choose_top([measured(5, 1.0), measured(3, 1.0)], 1).chosen] == [3]


def test_equal_configurations_are_chosen_once() -> None:
    choice = choose_top([measured(0, 1.0, lr=1e-4), measured(1, 1.1, lr=1e-4), measured(2, 1.2)], 2)
    assert [m.number for m in choice.chosen] == [0, 2]


def test_nothing_to_choose_from_is_said() -> None:
    choice = choose_top([measured(0, math.nan), measured(1, 1.0, complete=False)], 1)
    assert choice.chosen == []
    assert choice.reason == "none of 2 trials ran to the end with a finite value"


def test_the_group_with_the_best_mean_wins_over_the_one_with_the_best_seed() -> None:
    lucky = [measured(0, 1.0, group="a"), measured(1, 3.0, group="a")]
    steady = [measured(2, 1.9, group="b"), measured(3, 1.8, group="b")]
    choice = choose_group([*lucky, *steady])
    assert [m.number for m in choice.chosen] == [3, 2], "its seeds come best first"
    assert choice.reason == "best mean validation value over seeds: b 1.8500, a 2.0000"


def test_the_best_group_when_maximising_has_the_highest_mean() -> None:
    choice = choose_group([measured(0, 1.0, group="a"), measured(1, 2.0, group="b")], direction=Direction.MAXIMIZE)
    assert choice.chosen[0].group == "b"
    assert choice.reason.endswith("b 2.0000, a 1.0000")


def test_seeds_that_failed_do_not_count_in_a_group() -> None:
    group = [measured(0, math.nan, group="a"), measured(1, 9.0, group="a", complete=False), measured(2, 2.0, group="a")]
    assert [m.number for m in choose_group(group).chosen] == [2]


def test_no_group_that_ended_is_said() -> None:
    assert choose_group([measured(0, math.nan)]).reason == "no configuration ended with a finite value"


def test_one_that_broke_a_limit_is_not_chosen_and_the_reason_says_which() -> None:
    broke = [Measured(n, n, {"x": n}, 0.1 * n, violated="training takes 9 s") for n in range(3)]
    within = Measured(9, 9, {"x": 9}, 5.0)
    found = choose_top([*broke, within], 2)
    assert found.chosen == [within]
    assert found.reason.endswith("; not chosen for what they cost: #0, #1, #2 (#0: training takes 9 s)")
    assert choose_group([*broke, within]).chosen == [within]
    none = choose_top(broke, 1)
    assert none.chosen == []
    assert none.reason.startswith("none of 3 trials ran to the end with a finite value and kept the limits; not chosen")


def test_of_many_that_broke_a_limit_ten_are_named() -> None:
    broke = [Measured(n, n, {"x": n}, 0.1, violated="too large") for n in range(12)]
    assert "#9 and 2 more (#0: too large)" in choose_top(broke, 1).reason


def test_configurations_of_other_parameters_are_no_neighbours() -> None:
    space = SearchSpace(parameters={"rate": FloatParameter(low=0.0, high=1.0)})
    assert not neighbours({"rate": 0.5}, {"rate": 0.5, "rank": 8}, space)
    assert neighbours({"rate": 0.5}, {"rate": 0.55}, space)
