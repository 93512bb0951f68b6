"""A study file grows by what an extension asks for; less is refused with what to write."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.extension import Extension, Wider, extended, read_range
from hpo_service.errors import UsageError

SPACE = {
    "x": {"low": 0.1, "high": 1.0, "log": True},
    "n": {"low": 4, "high": 8, "step": 2},
    "s": {"low": 0.2, "high": 0.8, "step": 0.2},
    "k": {"choices": [1, 2]},
    "f": {"choices": [0.5, 2]},
    "b": {"choices": [True]},
    "w": {"choices": ["a", "1"]},
}


def study(**sections: Any) -> StudySpec:
    given = {
        "name": "s",
        "objective": {"python": "a:b"},
        "space": {"parameters": SPACE},
        "confirm": {"default": {"x": 1.0}},
    }
    return StudySpec.model_validate({**given, "search": {"budget": {"trials": 10, "gpu_hours": 2.0}}, **sections})


def test_ranges_and_choices_are_read() -> None:
    assert read_range("x=1e-5:1e-2") == ("x", Wider(ends=(1e-5, 1e-2)))
    assert read_range("k=1, 2,4") == ("k", Wider(choices=("1", "2", "4")))


@pytest.mark.parametrize("text", ["x", "x=", "=1:2", "x=1:", "x=a:b"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write NAME=LOW:HIGH"):
        read_range(text)


def test_everything_may_grow_at_once_and_is_said() -> None:
    wider, said = extended(study(), Extension(trials=20, gpu_hours=3.0, seeds=5, ranges={"x": Wider((0.01, 1.0))}))
    assert (wider.search.budget.trials, wider.search.budget.gpu_hours, wider.confirm.seeds) == (20, 3.0, 5)
    assert said == [
        "10 to 20 search trials",
        "2 to 3 device hours of the search",
        "3 to 5 seeds each",
        "x from 0.01 to 1",
    ]
    parameter = wider.space.resolve().parameters["x"]
    assert (parameter.low, parameter.high, parameter.log) == (0.01, 1.0, True)


def test_a_preset_s_range_grows_as_one_of_the_study_s_own() -> None:
    spec = StudySpec.model_validate({"name": "s", "model": {"base": "a/b"}, "data": {"source": "a/c"}})
    wider, _ = extended(
        spec,
        Extension(
            ranges={"learning_rate": Wider((1e-5, 1e-2)), "lora_rank": Wider(None, ("4", "8", "16", "32", "64"))}
        ),
    )
    assert list(wider.space.resolve().parameters) == list(spec.space.resolve().parameters)
    assert wider.space.resolve().parameters["learning_rate"].high == 1e-2
    assert wider.space.resolve().parameters["lora_rank"].choices[-1] == 64


@pytest.mark.parametrize(
    "name, choices, expected",
    [
        ("k", ("1", "2", "4"), [1, 2, 4]),
        ("f", ("2", "0.5", "0.1"), [0.5, 2, 0.1]),
        ("b", ("true", "false"), [True, False]),
        ("w", ("a", "1", "2"), ["a", "1", "2"]),
        ("k", ("1", "2", "many"), [1, 2, "many"]),
    ],
)
def test_a_new_choice_is_of_the_kind_of_the_others(name: str, choices: tuple[str, ...], expected: list[Any]) -> None:
    wider, said = extended(study(), Extension(ranges={name: Wider(choices=choices)}))
    assert wider.space.resolve().parameters[name].choices == expected
    assert said[0].startswith(f"{name} among ")


def test_whole_steps_are_kept() -> None:
    wider, _ = extended(study(), Extension(ranges={"n": Wider((0, 10)), "s": Wider((0.0, 1.0))}))
    assert [wider.space.resolve().parameters[name].low for name in ("n", "s")] == [0, 0.0]


@pytest.mark.parametrize(
    "more, reason",
    [
        ({}, "has all of that already"),
        ({"trials": 10, "ranges": {"x": Wider((0.1, 1.0)), "k": Wider(choices=("2", "1"))}}, "has all of that already"),
        ({"trials": 9}, "has 10 search trials, so 9 would be less"),
        ({"ranges": {"x": Wider((0.2, 2.0))}}, "leaves out some of 0.1 to 1"),
        ({"ranges": {"x": Wider(choices=("1",))}}, "has a range, 0.1 to 1; write x=LOW:HIGH"),
        ({"ranges": {"n": Wider((3.5, 8))}}, "write whole ends"),
        ({"ranges": {"n": Wider((3, 8))}}, "whole steps of 2 below 4"),
        ({"ranges": {"k": Wider(choices=("1", "4"))}}, "must keep the choices 1, 2"),
        ({"ranges": {"k": Wider((1, 4))}}, "must keep the choices 1, 2"),
        ({"ranges": {"y": Wider((1, 4))}}, "is no searched parameter; "),
        ({"ranges": {"x": Wider((-1.0, 4))}}, "a log scale needs low above 0"),
    ],
)
def test_what_is_not_more_is_refused(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        extended(study(), Extension(**more))


def test_a_limit_that_is_not_there_is_not_made() -> None:
    with pytest.raises(UsageError, match=r"no limit of device hours"):
        extended(study(search={"budget": {"trials": 10}}), Extension(gpu_hours=1.0))


def test_seeds_need_a_confirm_stage() -> None:
    with pytest.raises(UsageError, match="no confirm stage"):
        extended(study(confirm={"enabled": False}), Extension(seeds=9))


def test_commas_between_names_of_modules_do_not_separate_choices():
    name, wider = read_range("target_modules=attention, (q_proj, v_proj),full")
    assert name == "target_modules"
    assert wider.choices == ("attention", "(q_proj, v_proj)", "full")
