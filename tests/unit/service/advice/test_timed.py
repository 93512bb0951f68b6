"""What stages take by steps that are timed here: of what earlier studies do not tell, each model once."""

from __future__ import annotations

import pytest

from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import TrialError
from hpo_service.service.advice.short_runs import Pace
from hpo_service.service.advice.timed import timed_outlays
from hpo_service.service.studies.ahead.outlay import Outlay

SPEC = StudySpec.model_validate(
    {
        "name": "s",
        "model": {"base": "small", "target": "large"},
        "data": {"source": "r.jsonl"},
        "search": {"budget": {"trials": 10}},
    }
)
PACES = {"small": Pace(0.36, 80, 0.25, 10.0), "large": Pace(3.6, 80, 0.25, 20.0)}


def test_a_stage_takes_its_trials_times_their_steps_and_evaluations() -> None:
    asked: list[str] = []

    def timed(_: StudySpec, model: str) -> Pace:
        asked.append(model)
        return PACES[model]

    search, verify, confirm = timed_outlays(SPEC, [], timed)
    assert asked == ["small", "large"], "each model once"
    assert (search.stage, verify.stage, confirm.stage) == ("search", "verify", "confirm")
    assert search.hours == pytest.approx((10 * 80 * 0.36 * 1.25 + 10) / 3600)
    assert search.why == (
        "at most: 10 trials of 80 steps, 0.36 s each as timed here, and evaluations; less as losers are stopped"
    )
    assert verify.hours is not None
    assert verify.hours > search.hours


def test_what_earlier_studies_tell_is_not_timed() -> None:
    known = [Outlay("search", 0.5, "other took 0.05 a trial"), Outlay("verify", None, "unknown")]
    asked: list[str] = []

    def timed(_: StudySpec, model: str) -> Pace:
        asked.append(model)
        return PACES[model]

    found = timed_outlays(SPEC, known, timed)
    assert found[0] is known[0]
    assert asked == ["large"]


def test_what_cannot_be_timed_is_unknown_and_says_why() -> None:
    def timed(_: StudySpec, model: str) -> Pace:
        raise TrialError(f"model {model} is not on this machine")

    found = timed_outlays(SPEC, [], timed)
    assert {outlay.hours for outlay in found} == {None}
    assert found[0].why == "it cannot be timed here: model small is not on this machine"
