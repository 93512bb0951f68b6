"""A study's stages follow from its protocol, and everything about a stage from its row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hpo_service.domain.study.protocol import (
    CONFIRM,
    PROTOCOLS,
    SEARCH,
    STAGES,
    VERIFY,
    protocol_of,
    stage_after,
    stages_of,
)
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.schema import study_schema

BOTH = {"base": "small", "target": "large"}


def study(**sections: Any) -> StudySpec:
    built_in = {"model": BOTH, "data": {"source": "rows.jsonl"}}
    return StudySpec.model_validate({"name": "s", **(built_in if "objective" not in sections else {}), **sections})


def own(**sections: Any) -> StudySpec:
    return study(objective={"command": "run"}, space={"parameters": {"x": {"low": 0, "high": 1}}}, **sections)


@pytest.mark.parametrize(
    "sections, names",
    [
        ({}, ["search", "verify", "confirm"]),
        ({"model": {"base": "small"}}, ["search", "confirm"]),
        ({"confirm": {"enabled": False}}, ["search", "verify"]),
        ({"model": {"base": "small"}, "confirm": {"enabled": False}}, ["search"]),
    ],
)
def test_a_study_has_the_stages_that_it_asks_for(sections, names):
    spec = study(**sections)
    rules = stages_of(spec)
    assert [rule.name for rule in rules] == names
    assert [stage_after(spec, rule) for rule in rules] == [*rules[1:], None]


def test_a_stage_of_the_protocol_that_the_study_has_not_is_passed_over():
    assert stage_after(study(model={"base": "small"}), SEARCH) is CONFIRM
    assert protocol_of(study(confirm={"enabled": False}))[-1] is CONFIRM


def test_the_first_trains_the_small_model_and_the_others_the_target():
    assert [rule.model_of(study()) for rule in (SEARCH, VERIFY, CONFIRM)] == ["small", "large", "large"]
    assert [rule.model_of(study(model={"base": "one"})) for rule in (SEARCH, CONFIRM)] == ["one", "one"]
    assert CONFIRM.model_of(own()) is None


def test_a_stages_trials_are_counted_before_it_is_opened():
    spec = study(search={"budget": {"trials": 7}}, transfer={"top": 2, "bracket": [1, 2]}, confirm={"seeds": 4})
    assert [rule.trials(spec) for rule in stages_of(spec)] == [7, 4 + 1 + 3, 8]
    assert CONFIRM.trials(own()) == 3, "there is no default to run beside the winner"


def test_a_stage_says_how_its_trials_come_about():
    spec = study(search={"budget": {"trials": 7, "gpu_hours": 1.5}}, transfer={"top": 2, "bracket": [1, 2]})
    assert [rule.outline(spec) for rule in stages_of(spec)] == [
        "7 trials or 1.5 GPU-hours, sampler gp, pruner halving",
        "up to 5 runs: the best 2 x learning rate times 1, 2, and the default; "
        "up to 3 more while the best lies at an edge",
        "up to 6 runs: the best and the default, 3 seeds each",
    ]
    assert CONFIRM.outline(study(confirm={"top": 2})).startswith("up to 9 runs: the best 2 and the default")
    bare = study(transfer={"top": 2, "bracket": [1, 2], "control": False, "extend": 0})
    assert VERIFY.outline(bare) == "up to 4 runs: the best 2 x learning rate times 1, 2"


def test_the_verify_stage_halves_at_a_rung_of_its_own_unless_nothing_is_pruned():
    spec = study(search={"pruner": "median", "rungs": [0.5]}, transfer={"rungs": [0.3]})
    assert SEARCH.search(spec) == spec.search
    judged = VERIFY.search(spec)
    assert (judged.pruner, judged.rungs) == ("halving", [0.3])
    assert VERIFY.search(study(search={"pruner": "none"})).pruner == "none"


def test_stages_of_one_name_are_one_row():
    for protocol in PROTOCOLS.values():
        assert all(STAGES[rule.name] is rule for rule in protocol.stages)


def test_metrics_may_be_asked_for_in_every_stage_that_is_planned():
    stages = json.loads(json.dumps(study_schema()))["$defs"]["EvaluationSpec"]["properties"]["stages"]
    assert stages["items"]["enum"] == [rule.name for rule in STAGES.values() if not rule.proposes]


@pytest.mark.parametrize(
    "protocol, names",
    [
        ("quick", ["quick", "confirm"]),
        ("progressive", ["coarse", "fine", "verify", "confirm"]),
        ("proxy", ["proxy", "recheck", "verify", "confirm"]),
        ("random", ["search", "verify", "confirm"]),
    ],
)
def test_a_protocol_has_stages_of_its_own(protocol, names):
    spec = study(protocol=protocol)
    assert [rule.name for rule in stages_of(spec)] == names
    assert all(rule.trials(spec) > 0 and rule.outline(spec) for rule in stages_of(spec))


def test_a_protocol_may_stand_for_a_sampler():
    assert SEARCH.search(study(protocol="random")).sampler == "random"
    assert SEARCH.search(study()).sampler == study().search.sampler
    with pytest.raises(ValueError, match=r"protocol random proposes by random: drop search\.sampler"):
        study(protocol="random", search={"sampler": "qmc"})
    with pytest.raises(ValueError, match="grid needs a finite space"):
        study(protocol="grid")


def test_a_progressive_search_divides_its_budget():
    spec = study(protocol="progressive", search={"budget": {"trials": 7}})
    assert [rule.trials(spec) for rule in stages_of(spec)][:2] == [3, 4]
    tiny = study(protocol="progressive", search={"budget": {"trials": 1}})
    assert [rule.trials(tiny) for rule in stages_of(tiny)][:2] == [1, 1]


@pytest.mark.parametrize("protocol", ["quick", "progressive", "proxy"])
def test_an_objective_of_the_users_own_is_not_asked_for_a_share_of_the_rows(protocol):
    with pytest.raises(ValueError, match="use one of full, tpe, random, grid"):
        own(protocol=protocol)


def test_only_what_is_searched_first_is_on_a_share_of_the_rows():
    spec = study(protocol="proxy", search={"share": 0.1})
    assert {rule.name: rule.share(spec) for rule in STAGES.values() if rule.share(spec) < 1} == {
        "proxy": 0.1,
        "coarse": 0.1,
    }
