"""A study with few of its trials listed says of all of them what the whole one says."""

from __future__ import annotations

import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.cost import study_cost
from hpo_service.settings import Settings

STUDY = {
    "name": "s",
    "objective": {"python": "nobody:calls_it"},
    "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
    "search": {"budget": {"trials": 9}, "pruner": "none", "sampler": "random"},
    "confirm": {"enabled": False},
}
VALUES = [0.5, 0.1, 0.9, 0.4, 0.3, 0.8]


@pytest.fixture
def service(migrated_url, tmp_path):
    made = Service(Settings(storage=migrated_url, output=tmp_path, cache=tmp_path))
    made.studies.create(StudySpec.model_validate(STUDY))
    with made.db.transaction():
        made.worker_rows.register("w1", "host", 1, "0", "cpu")
    held = made.queue.claim("w1", "s")  # open, and the oldest
    for place, value in enumerate(VALUES):
        trial = made.queue.claim("w1", "s")
        made.queue.report(trial.lease, Report(step=1, fraction=1.0, value=value))
        kind = OutcomeKind.PRUNED if place == 2 else OutcomeKind.COMPLETE
        facts = {"device_seconds": 2.0 + place, "seconds_setup": 0.5}
        made.queue.finish(trial.lease, Outcome(kind=kind, value=value, reason="for a test", facts=facts))
    assert held.number == 0
    yield made
    made.db.dispose()


def test_an_outline_lists_the_latest_the_open_and_the_best_trial_alone(service):
    (view,) = service.reader.outline("s", 2).stages
    assert [trial.number for trial in view.trials] == [0, 2, 5, 6]
    assert [len(trial.curve) for trial in view.trials] == [0, 1, 1, 1]
    assert view.best().value == 0.1


@pytest.mark.parametrize("listed", [0, 3, 100])
def test_counts_costs_and_what_was_found_are_the_whole_studys(service, listed):
    whole, outline = service.reader.snapshot("s"), service.reader.outline("s", listed)
    (everything,), (view,) = whole.stages, outline.stages
    assert {s: view.count(s) for s in TrialState} == {s: everything.count(s) for s in TrialState}
    assert view.best() == everything.best()
    (cost,), (expected,) = study_cost(outline).stages, study_cost(whole).stages
    assert (cost.trials, cost.pruned) == (expected.trials, expected.pruned)
    assert [cost.own, cost.preparing, cost.saved] == pytest.approx([expected.own, expected.preparing, expected.saved])
    assert service.reader.evidence(outline) == service.reader.evidence(whole)


def test_whoever_lists_all_gets_the_same_trials(service):
    whole, outline = service.reader.snapshot("s"), service.reader.outline("s", 100)
    assert outline.stages[0].trials == whole.stages[0].trials
