"""A worker is killed and another node, which sees nothing of its disk, goes on from the store: with the same loss."""

from __future__ import annotations

import uuid

import psutil
import pytest
from fleet import Fleet

from hpo_service.bootstrap import Service
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.filestore.attempts import CHECKPOINT
from hpo_service.filestore.store import FileStore
from hpo_service.settings import Settings
from tests.acceptance.home import PATIENCE, wait_until
from tests.fault.test_real_trial import EVALUATIONS, kill_like_a_machine, outcome, spec_named, trial_of

__all__ = ["spec_named"]


@pytest.fixture
def service(migrated_sqlite, tmp_path):
    made = Service(Settings(storage=migrated_sqlite, output=tmp_path / "out", cache=tmp_path / "cache"))
    yield made
    made.db.dispose()


@pytest.fixture
def node(service, tmp_path):
    """Starts workers of a node with a disk of its own."""
    fleets = []

    def make(name, study, store):
        output = tmp_path / name
        output.mkdir()
        fleets.append(Fleet(service.settings.storage, output, study, {"HPO_SERVICE_STORE": store} if store else {}))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.stop()


def ended(fleet):
    fleet.start(1)
    assert fleet.wait(PATIENCE)


def kept(store, what):
    return [path for path in store._found("") if f"/{what}/" in path]


@pytest.mark.slow
def test_a_trial_of_a_node_that_is_gone_ends_on_another_with_the_loss_of_an_undisturbed_one(
    service, spec_named, node, tmp_path, s3_bucket
):
    url = f"{s3_bucket}/{uuid.uuid4().hex}"
    store = FileStore(url)
    service.studies.create(spec_named("killed"))
    first = node("first", "killed", url)
    [worker] = first.start(1)

    def half_way() -> bool:
        assert worker.poll() is None
        trial = trial_of(service, "killed")
        return trial is not None and len(trial.curve) >= 3 and bool(kept(store, CHECKPOINT))

    wait_until(half_way, "a checkpoint is in the store")
    kill_like_a_machine(psutil.Process(worker.pid))
    at_death = trial_of(service, "killed")
    assert at_death is not None
    assert at_death.state is TrialState.RUNNING
    assert len(at_death.curve) < EVALUATIONS
    (first.output / "killed").rename(tmp_path / "burnt")

    ended(node("second", "killed", url))
    killed = trial_of(service, "killed")
    assert killed is not None
    assert (killed.state, killed.attempt, killed.losses) == (TrialState.COMPLETE, 2, 1)
    assert killed.facts.training.resumed_at_step
    assert service.reader.snapshot("killed").state is StudyState.FINISHED
    assert kept(store, CHECKPOINT) == []

    service.studies.create(spec_named("undisturbed"))
    ended(node("third", "undisturbed", ""))
    assert outcome(service, "killed") == outcome(service, "undisturbed")
