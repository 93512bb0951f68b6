"""What a whole study may take is kept: search has its share, and what goes beyond it is left out with the reason."""

from __future__ import annotations

from hpo_service.domain.studyfile.extension import Extension
from hpo_service.domain.trial.states import StudyState, TrialState
from tests.integration.test_limits import took

HOUR = 3600.0
OWN = {"confirm": {"default": {"x": 0.9, "y": 0.9}, "seeds": 2}}


def work(bench):
    """Every trial takes an hour of a device."""
    count = 0
    while (claimed := bench.claim()) is not None or bench.service.stages.advance_all():
        if claimed is not None:
            count += 1
            took(bench, claimed, HOUR)
            bench.complete(claimed, 1.0 + float(claimed.config.parameters["x"]))
    return count


def test_trials_of_the_whole_study_leave_the_search_what_confirm_does_not_need(bench):
    bench.create(**OWN, budget={"trials": 7})
    assert work(bench) == 3 + 4
    assert bench.state() is StudyState.FINISHED


def test_hours_of_the_whole_study_are_kept_and_what_is_left_out_is_said(bench):
    bench.create(**OWN, budget={"gpu_hours": 5.5})
    assert work(bench) == 2 + 3, "half of five and a half hours are the search's"
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FINISHED
    (left,) = [t for t in bench.trials("confirm") if t.state is TrialState.CANCELLED]
    assert left.reason.startswith("not planned any more: the study may take 5.5 device hours, and 5.000 are used")


def test_more_hours_take_up_again_what_was_left_out(bench):
    bench.create(**OWN, budget={"gpu_hours": 5.5})
    work(bench)
    bench.service.extensions.extend("s", Extension(whole_gpu_hours=9.0))
    assert work(bench) == 1
    assert {t.state for t in bench.trials("confirm")} == {TrialState.COMPLETE}
    assert bench.state() is StudyState.FINISHED


def test_money_buys_hours(bench):
    bench.create(**OWN, budget={"money": 11.0, "price_per_hour": 2.0})
    assert work(bench) == 5


def test_a_study_whose_budget_proves_nothing_fails_with_the_reason(bench):
    bench.create(**OWN, budget={"gpu_hours": 1.5})
    work(bench)
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FAILED
    assert "confirm measured nothing" in snapshot.reason
    assert "the study may take 1.5 device hours" in snapshot.reason
