"""The verify stage: what it opens with beside the bracket, and how it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hpo_service.domain.decide.planning.carry_over import plan_carried
from hpo_service.domain.decide.planning.compare import plan_comparison
from hpo_service.domain.decide.planning.plan import Plan, Results
from hpo_service.domain.decide.selection import Measured
from hpo_service.domain.study.protocol import CONFIRM, VERIFY
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.planned import CARRIED, CONTROL, EXTENDED, PlannedTrial

FACTS = {"small": ModelFacts(family="llama", hidden_size=64), "large": ModelFacts(family="llama", hidden_size=256)}
CONFIG: dict[str, ParameterValue] = {"learning_rate": 1e-3, "lora_rank": 8}
SEARCHED = [
    Measured(100, 0, CONFIG, 1.0),
    Measured(101, 1, {**CONFIG, "learning_rate": 1e-4, "lora_rank": 32}, 1.1),
]


def study(**transfer: Any) -> StudySpec:
    models = {"base": "small", "target": "large"}
    return StudySpec.model_validate(
        {"name": "s", "model": models, "data": {"source": "rows.jsonl"}, "transfer": {"top": 1, **transfer}}
    )


def planned(spec: StudySpec, so_far: Sequence[Measured] = ()) -> Plan | None:
    return plan_carried(VERIFY, spec, Results("search", SEARCHED, FACTS, so_far))


def ended(plan: Plan, *values: float, start: int = 0) -> list[Measured]:
    """The trials of a plan with what they measured; NaN is one that was stopped or diverged."""
    return [
        Measured(200 + start + i, start + i, dict(t.parameters), value, value == value, t.label, t.role, t.origin_id)
        for i, (t, value) in enumerate(zip(plan.trials, values, strict=True))
    ]


def only(plan: Plan | None) -> PlannedTrial:
    assert plan is not None
    [trial] = plan.trials
    return trial


def opened(spec: StudySpec) -> Plan:
    plan = planned(spec)
    assert plan is not None
    return plan


def test_the_default_runs_beside_them_as_control() -> None:
    *carried, control = opened(study()).trials
    assert {trial.role for trial in carried} == {CARRIED}
    assert (control.role, control.label, control.origin_id) == (CONTROL, "default", None)
    assert control.parameters == {"learning_rate": 2e-4, "lora_rank": 16}
    assert all(trial.role == CARRIED for trial in opened(study(control=False)).trials)


def test_a_best_at_the_edge_is_followed_until_it_lies_inside() -> None:
    spec = study()
    first = opened(spec)
    so_far = ended(first, 1.3, 1.2, 1.1, 1.5)
    following = only(planned(spec, so_far))
    assert (following.role, following.label, following.origin_id) == (EXTENDED, "search #0, lr x 4", 100)
    top = float(first.trials[2].parameters["learning_rate"])
    assert following.parameters["learning_rate"] == pytest.approx(2 * top)
    assert following.reason == "search #0, lr x 2 ended best; x 2 is the best and the highest of the bracket, " + (
        "so x 4 is tried too"
    )
    so_far += ended(Plan([following], first.choice), 1.0, start=4)
    again = only(planned(spec, so_far))
    assert again.label == "search #0, lr x 8"
    assert again.parameters["learning_rate"] == pytest.approx(4 * top)
    so_far += ended(Plan([again], first.choice), 1.05, start=5)
    assert planned(spec, so_far) is None


def test_the_way_down_is_followed_too() -> None:
    spec = study()
    assert only(planned(spec, ended(opened(spec), 1.1, 1.2, 1.3, 1.5))).label == "search #0, lr x 0.25"


@pytest.mark.parametrize("values", [(1.3, 1.1, 1.2, 1.5), (float("nan"),) * 4])
def test_a_bracket_that_holds_its_best_or_nothing_at_all_ends_there(values: tuple[float, ...]) -> None:
    spec = study()
    assert planned(spec, ended(opened(spec), *values)) is None


def test_the_control_at_its_best_moves_no_bracket() -> None:
    spec = study()
    assert planned(spec, ended(opened(spec), 1.3, 1.1, 1.2, 0.5)) is None


def test_a_bracket_takes_no_more_steps_than_the_study_allows() -> None:
    spec = study(extend=1)
    first = opened(spec)
    so_far = ended(first, 1.3, 1.2, 1.1, 1.5)
    following = planned(spec, so_far)
    assert following is not None
    assert planned(spec, so_far + ended(following, 1.0, start=4)) is None
    assert planned(study(extend=0), so_far) is None


def test_no_learning_rate_passes_one() -> None:
    searched = [Measured(100, 0, {"learning_rate": 0.9, "lora_alpha": 8.0}, 1.0)]
    spec = study(rule="copy", control=False)
    first = plan_carried(VERIFY, spec, Results("search", searched, FACTS))
    assert first is not None
    assert max(float(trial.parameters["learning_rate"]) for trial in first.trials) == 1.0
    so_far = ended(first, 1.3, 1.2, 1.1)
    assert plan_carried(VERIFY, spec, Results("search", searched, FACTS, so_far)) is None


def test_a_large_target_is_guarded_against_a_daring_rate() -> None:
    facts = {**FACTS, "large": ModelFacts(family="llama", hidden_size=8192)}
    searched = [Measured(100, 0, {"learning_rate": 2e-2, "lora_alpha": 8.0}, 1.0)]
    plan = plan_carried(VERIFY, study(), Results("search", searched, facts))
    assert plan is not None
    assert plan.trials[0].label == "search #0, lr x 0.333"


def test_the_control_is_never_confirmed_as_winner() -> None:
    spec = study()
    results = Results("verify", ended(opened(spec), 1.3, 1.1, 1.2, 0.5), {})
    plan = plan_comparison(CONFIRM, spec, results)
    assert plan is not None
    assert plan.trials[0].origin_id == 201
    assert [trial.label for trial in plan.trials[:2]] == ["winner 1", "default"]


def test_a_comparison_is_planned_once() -> None:
    spec = study()
    results = Results("verify", ended(opened(spec), 1.3, 1.1, 1.2, 0.5), {})
    plan = plan_comparison(CONFIRM, spec, results)
    assert plan is not None
    assert plan_comparison(CONFIRM, spec, Results("verify", results.measured, {}, ended(plan, *[1.0] * 6))) is None
