"""What no database, sampler or worker could serve is refused when a study is made, each at its place with a remedy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hpo_service.domain.study.rules.limits import LARGEST_WHOLE, LONGEST_NAME, LONGEST_TEXT, MOST_PARAMETERS
from hpo_service.domain.study.search_space import LONGEST_KEY, canonical_key
from hpo_service.domain.study.sections.search import LARGEST_SEED
from hpo_service.domain.study.spec import STORED, StudySpec

OWN: dict[str, Any] = {
    "name": "x",
    "objective": {"python": "module:function"},
    "space": {"parameters": {"lr": {"low": 0.1, "high": 1.0}}},
}
TRAINED: dict[str, Any] = {"name": "x", "model": {"base": "a/small"}, "data": {"source": "c/rows"}}
UNIT = {"low": 0.0, "high": 1.0}


def refusals(given: dict[str, Any]) -> dict[tuple[int | str, ...], str]:
    with pytest.raises(ValidationError) as refused:
        StudySpec.model_validate(given, strict=True)
    found: dict[tuple[int | str, ...], str] = {}
    for error in refused.value.errors():
        found.setdefault(error["loc"], error["msg"])
    return found


def own(**sections: Any) -> dict[str, Any]:
    return {**OWN, **sections}


def space(**parameters: Any) -> dict[str, Any]:
    return own(space={"parameters": parameters})


@pytest.mark.parametrize("seed", [LARGEST_SEED + 1, 2**63, 10**400])
def test_a_seed_of_more_than_32_bits_is_refused(seed):
    assert "must be at most 4294967295" in refusals(own(search={"seed": seed}))["search", "seed"]
    given = {**TRAINED, "data": {"source": "c/rows", "split": {"seed": seed}}}
    assert "must be at most 4294967295" in refusals(given)["data", "split", "seed"]


def test_the_largest_seed_is_taken():
    assert StudySpec.model_validate(own(search={"seed": LARGEST_SEED})).search.seed == LARGEST_SEED


@pytest.mark.parametrize(
    "section, place",
    [
        ({"training": {"patience": 2**60}}, ("training", "patience")),
        ({"execution": {"max_losses": 2**63}}, ("execution", "max_losses")),
        ({"search": {"startup_trials": LARGEST_WHOLE + 1}}, ("search", "startup_trials")),
    ],
)
def test_a_whole_number_that_no_column_holds_exactly_is_refused_wherever_it_stands(section, place):
    assert "beyond 2^53" in refusals(own(**section))[place]


@pytest.mark.parametrize(
    "parameter, key, words",
    [
        ({"low": -1e308, "high": 1e308}, "low", "wider than a number can be"),
        ({"low": 0.0, "high": 1.0, "step": 1e-17}, "step", "more than 2^53 values"),
        ({"low": 0, "high": 2**60, "step": 2}, "step", "more than 2^53 values"),
        ({"low": 0, "high": 2**60}, "high", "beyond 2^53"),
        ({"low": 10**400, "high": 1}, "low", "must not exceed high"),
        ({"low": 1.0, "high": 1.7e308}, "high", "beyond 1e+300"),
    ],
)
def test_a_range_that_cannot_be_sampled_is_refused_at_its_key(parameter, key, words):
    found = refusals(space(x=parameter))
    assert [said for loc, said in found.items() if loc[-1] == key and words in said], found


@pytest.mark.parametrize("text, words", [("a\0b", "NUL"), ("\ud800", "half a character"), ("x" * 200_000, "too long")])
@pytest.mark.parametrize(
    "put",
    [
        lambda text: own(description=text) if len(text) < 100 else space(x={"choices": [text, "b"]}),
        lambda text: space(x={"choices": ["b", text]}),
        lambda text: own(objective={"command": f"train {text}"}),
        lambda text: {**TRAINED, "model": {"base": text}},
        lambda text: {**space(x=UNIT), "confirm": {"default": {"x": text}}},
    ],
)
def test_a_text_that_cannot_be_stored_is_refused_wherever_it_stands(put, text, words):
    meant = {"too long": "longer than the"}.get(words, words)
    # fields with bounds of their own are looked at by pydantic first
    assert any(meant in said or "unicode string" in said for said in refusals(put(text)).values())


@pytest.mark.parametrize("name", ["x\0y", "\udfff", "x" * (LONGEST_NAME + 1)])
def test_a_name_that_cannot_be_stored_is_refused(name):
    assert refusals(space(**{name: UNIT}))


def test_the_longest_name_and_text_are_taken():
    StudySpec.model_validate(space(**{"x" * LONGEST_NAME: {"choices": ["y" * LONGEST_TEXT, "z"]}}))


def test_more_parameters_than_can_be_searched_are_refused_with_the_number():
    StudySpec.model_validate(space(**{f"p{i}": UNIT for i in range(MOST_PARAMETERS)}))
    found = refusals(space(**{f"p{i}": UNIT for i in range(MOST_PARAMETERS + 1)}))
    assert f"{MOST_PARAMETERS + 1} parameters are more than the {MOST_PARAMETERS}" in found["space", "parameters"]


def test_a_lease_that_a_worker_in_good_health_would_lose_is_refused_and_so_is_a_hang_that_is_none():
    found = refusals(own(execution={"lease_seconds": 0.05, "hang_seconds": 0.5}))
    assert "workers that are alive would lose their trials" in found["execution", "lease_seconds"]
    assert "children that are alive would be killed" in found["execution", "hang_seconds"]


def test_all_of_it_is_said_at_once():
    given = own(description="\0", search={"seed": 2**40}, execution={"lease_seconds": 1.0})
    assert set(refusals(given)) == {("description",), ("search", "seed"), ("execution", "lease_seconds")}


def test_a_study_that_was_created_before_a_limit_came_to_be_is_read_as_it_is():
    given = own(search={"seed": 2**40}, execution={"lease_seconds": 0.05})
    assert StudySpec.model_validate(given, context=STORED).search.seed == 2**40


def test_a_long_configuration_has_a_short_key_of_its_own_and_a_short_one_is_its_own_key():
    assert canonical_key({"b": 1, "a": 0.5}) == '{"a": 0.5, "b": 1}'
    long = {f"p{i}": 0.1 * i for i in range(300)}
    assert len(canonical_key(long)) < 100 < LONGEST_KEY
    assert canonical_key(long) == canonical_key(dict(reversed(long.items())))
    assert canonical_key(long) != canonical_key({**long, "p7": 0.5})


# commands


def command(line: str, **parameters: Any) -> dict[str, Any]:
    return own(objective={"command": line}, space={"parameters": parameters})


@pytest.mark.parametrize("name", ["seed", "checkpoint"])
def test_a_parameter_with_the_name_of_what_every_command_gets_is_refused_by_name(name):
    found = refusals(command(f"train {{{name}}}", **{name: {"choices": [1, 2]}}))
    assert f"every command gets as {{{name}}}" in found["space", "parameters", name]
    StudySpec.model_validate(space(**{name: {"choices": [1, 2]}}))  # a function gets parameters apart from the rest


@pytest.mark.parametrize("name", ["a:b", "a!r", "a{b", "a[0", ""])
def test_a_parameter_that_no_braces_can_name_is_refused(name):
    found = refusals(command("train", **{name: UNIT}))
    assert "cannot stand in the braces" in found["space", "parameters", name]


def test_names_with_dots_and_brackets_stand_as_they_are():
    names = ["optim.lr", "layers[0]", "x"]
    StudySpec.model_validate(command("train {optim.lr} {layers[0]} {x:.3g}", **dict.fromkeys(names, UNIT)))


@pytest.mark.parametrize("line", ["train {y.real}", "train {optim.lr}", "train {x:{width}}"])
def test_what_is_no_parameter_is_refused_by_name(line):
    assert "is no parameter of this space" in refusals(command(line, x=UNIT))["objective", "command"]


UNWRITABLE = ["train {x:d}", "train {x.lr}", "train {x[0]}", "train {x!z}", "train {checkpoint:04d}"]


@pytest.mark.parametrize("line", UNWRITABLE)
def test_a_value_that_cannot_be_written_as_asked_is_refused(line):
    assert "cannot be filled in" in refusals(command(line, x=UNIT))["objective", "command"]
