"""A worker that is killed at any labelled point leaves nothing that needs a hand: the next one finishes the study."""

from __future__ import annotations

import signal

import optuna
import pytest
from fault_studies import spec_of

from hpo_service.bootstrap import Service
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.failpoint import LABELS, reach
from hpo_service.settings import Settings

# reached by the built-in trainer, which test_real_trial.py kills there, and by a store, whose writers die in
# tests/property/test_file_store.py
ELSEWHERE = {"checkpoint.written", "filestore.parts", "filestore.manifest"}


@pytest.fixture
def service(migrated_url, tmp_path):
    made = Service(Settings(storage=migrated_url, output=tmp_path / "out", cache=tmp_path / "cache"))
    yield made
    made.db.dispose()


# Inside a step, which must be undone whole, both databases are tried; between two steps they do not differ.
INSIDE_A_STEP = ["claim.bound", "report.recorded", "finish.told", "stage.planned"]
CASES = [
    *(("postgresql", label) for label in sorted(set(LABELS) - ELSEWHERE)),
    *(("sqlite", label) for label in INSIDE_A_STEP),
]


@pytest.mark.slow
@pytest.mark.parametrize("dialect,label", CASES)
def test_a_worker_killed_there_leaves_nothing_behind(service, label, fleet_of):
    study = service.studies.create(spec_of("points", "objectives:instant", trials=3, lease=2.0, confirmed=True))
    fleet = fleet_of(service, study.name)
    [victim] = fleet.start(1, failpoint=label)
    assert victim.wait(60) == -signal.SIGKILL
    fleet.start(1)
    assert fleet.wait(90)
    snapshot = service.reader.snapshot(study.name)
    assert snapshot.state is StudyState.FINISHED
    for stage in snapshot.stages:
        assert [t.number for t in stage.trials] == list(range(len(stage.trials)))
        assert {t.state for t in stage.trials} == {TrialState.COMPLETE}
        storage = optuna.storages.RDBStorage(service.db.url)
        told = optuna.load_study(study_name=f"{study.name}/{stage.stage}", storage=storage).trials
        storage.engine.dispose()
        assert [t.state for t in told] == [optuna.trial.TrialState.COMPLETE] * len(stage.trials)
    assert [len(stage.trials) for stage in snapshot.stages] == [3, 4]


def test_points_that_are_not_armed_do_nothing():
    assert [reach(label) for label in LABELS] == [None] * len(LABELS)
