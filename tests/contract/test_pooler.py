"""The queue works through PgBouncer, which hands each transaction to another connection."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from benchmarks.fleet import pooler
from hpo_service.bootstrap import Service
from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import UsageError
from hpo_service.settings import Settings

TRIALS = 8


@pytest.fixture
def through(postgres_database):
    """URL of an empty database through PgBouncer with five connections to it."""
    if shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail("pgbouncer is not installed")
        pytest.skip("pgbouncer is not installed")
    # who runs the database runs the pooler, and must reach its settings
    with tempfile.TemporaryDirectory(prefix="hpo-pooler-") as name:
        Path(name).chmod(0o755)
        with pooler(postgres_database, Path(name), size=5) as (url, _):
            yield url


def test_trials_are_claimed_and_finished_more_often_than_it_takes_to_prepare_a_statement(through, tmp_path, study_spec):
    services = [Service(Settings(storage=through, output=tmp_path, cache=tmp_path)) for _ in range(3)]
    first = services[0]
    first.upgrade()
    first.studies.create(study_spec("pooled"))
    with first.db.transaction():
        for number in range(len(services)):
            first.worker_rows.register(f"w{number}", "localhost", 1, "0", "cpu")
    for number in range(TRIALS):
        service = services[number % len(services)]
        assignment = service.queue.claim(f"w{number % len(services)}")
        assert isinstance(assignment, Assignment)
        for step in range(1, 4):
            report = Report(step=step, fraction=step / 3, value=1.0 / step)
            assert service.queue.report(assignment.lease, report).action == "continue"
        service.queue.renew(f"w{number % len(services)}", {assignment.lease: 1.0})
        service.queue.finish(assignment.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=number))
    with first.db.transaction(read_only=True):
        study = first.study_rows.get("pooled")
        [stage] = first.study_rows.stages(study.id)
        rows = first.trial_rows.list(study.id, stage.id)
    assert [(row.state, row.value) for row in rows] == [(TrialState.COMPLETE, number) for number in range(TRIALS)]
    for service in services:
        service.db.dispose()


def test_a_threshold_that_is_no_number_is_one_clear_line(tmp_path):
    url = "postgresql://somebody@localhost/none?prepare_threshold=often"
    with pytest.raises(UsageError, match=r"^the storage URL has prepare_threshold=often: write none, or a number of"):
        Service(Settings(storage=url, output=tmp_path, cache=tmp_path)).db  # noqa: B018
