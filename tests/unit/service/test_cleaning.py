"""What may go of a study's files, and what may not: whatever a trial needs that may still be run."""

from __future__ import annotations

import json

import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.errors import NotFoundError
from hpo_service.filestore.attempts import ADAPTER, CHECKPOINT, place_of
from hpo_service.filestore.store import FileStore
from hpo_service.settings import Settings
from hpo_service.wire.attempt_folder import AttemptFolder


@pytest.fixture
def service(migrated_sqlite, tmp_path):
    made = Service(Settings(storage=migrated_sqlite, output=tmp_path / "out", cache=tmp_path / "cache"))
    spec = {
        "name": "s",
        "objective": {"python": "nobody:calls_it"},
        "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
        "confirm": {"enabled": False},
    }
    made.studies.create(StudySpec.model_validate(spec))
    with made.db.transaction():
        made.worker_rows.register("w", "host", 1, "0", "cpu")
    yield made
    made.db.dispose()


@pytest.fixture
def store(tmp_path):
    return FileStore(str(tmp_path / "store"))


@pytest.fixture
def claim(service):
    """Claims a trial that leaves a checkpoint and an adapter in its folder."""

    def claim():
        trial = service.queue.claim("w")
        folder = AttemptFolder.of(service.settings.output, trial)
        for path in (folder.checkpoint / "weights", folder.adapter / "weights"):
            path.parent.mkdir(parents=True)
            path.write_bytes(b"12345")
        folder.configuration.write_text(json.dumps({"claim": {"trial": trial.identity}}))
        return trial, folder

    return claim


@pytest.fixture
def found(service, store):
    return lambda **more: {
        each.where: each.size for each in service.cleaning.find("s", service.settings.output, store, **more)
    }


def finish(service, trial, **more):
    outcome = Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=1.0, **more)
    service.queue.finish(trial.lease, outcome)


def test_of_a_trial_that_has_ended_checkpoint_and_adapter_may_go(service, claim, found):
    running, (ended, folder) = claim(), claim()
    finish(service, ended)
    assert found() == {str(folder.checkpoint): 5, str(folder.adapter): 5}
    assert running[1].checkpoint.exists()


def test_an_adapter_that_is_kept_stays(service, claim, found):
    trial, folder = claim()
    finish(service, trial, adapter=str(folder.adapter))
    assert found() == {str(folder.checkpoint): 5}


def test_what_is_found_is_removed_and_then_there_is_nothing(service, claim, found, store):
    trial, folder = claim()
    (folder.path / ".adapter-0123").mkdir()
    finish(service, trial)
    for each in service.cleaning.find("s", service.settings.output, store):
        each.remove()
    assert found() == {}
    assert not folder.checkpoint.exists()
    assert folder.configuration.exists()


def test_another_databases_trial_of_the_same_name_keeps_its_files_unless_that_is_asked_for(service, claim, found):
    trial, folder = claim()
    finish(service, trial)
    folder.configuration.write_text(json.dumps({"claim": {"trial": "study 9, trial 9 of 9.0"}}))
    assert found() == {}
    assert set(found(strangers=True)) == {str(folder.checkpoint), str(folder.adapter)}


def test_the_store_is_looked_through_too(service, claim, found, store, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    running, (ended, _), (kept, _) = claim()[0], claim(), claim()
    for trial in (running, ended, kept):
        for what in (CHECKPOINT, ADAPTER):
            store.put(place_of(trial, 1, what), {"file": file}, {})
    store.put("s/trials/search-0000.deadbeef/attempt-1/checkpoint", {"file": file}, {})
    finish(service, ended)
    finish(service, kept, adapter=store.shown(place_of(kept, 1, ADAPTER)))
    expected = {
        store.shown(place)
        for place in (place_of(ended, 1, CHECKPOINT), place_of(ended, 1, ADAPTER), place_of(kept, 1, CHECKPOINT))
    }
    in_store = {where for where in found() if where.startswith(store.url)}
    assert in_store == expected
    strange = {where for where in found(strangers=True) if where.startswith(store.url)}
    assert strange - expected == {store.shown("s/trials/search-0000.deadbeef")}


def test_a_study_that_is_not_there_is_missed(service):
    with pytest.raises(NotFoundError, match="there is no study 't'"):
        service.cleaning.find("t", service.settings.output, None)
