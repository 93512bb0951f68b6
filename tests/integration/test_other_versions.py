"""A study that another version made costs its own workers their work, and nobody else theirs."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import update

from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.errors import UnreadableStudyError
from hpo_service.storage import schema

# what is asked of the database here is under contract on both kinds
pytestmark = pytest.mark.parametrize("dialect", ["sqlite"])


def rewrite(bench, table, column, change, study="s"):
    """Store a study or its stage as a version to come might."""
    with bench.service.db.transaction():
        row = bench.service.study_rows.get(study)
        (stage,) = bench.service.study_rows.stages(row.id)
        old = row.spec if table is schema.study else stage.space_document
        which = table.c.id == (row.id if table is schema.study else stage.id)
        bench.service.db.connection.execute(update(table).where(which).values({column: {**old, **change}}))


def from_the_future(bench, study="s"):
    rewrite(bench, schema.study, "spec", {"hyperdrive": {"warp": 9}}, study)


@pytest.fixture
def two(bench):
    """An older study that a newer version wrote, and one of ours after it."""
    bench.create(name="theirs")
    bench.create(name="ours")
    from_the_future(bench, "theirs")
    return bench


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_unpinned_workers_work_on_the_other_studies_and_say_it_once(two, caplog):
    assert two.drain_queue() == 4
    two.service.reaper.reap()
    assert two.state("ours") is StudyState.FINISHED
    (said,) = warnings(caplog)
    assert said.startswith("study theirs was made by another version of hpo-service and cannot be read by this one")
    assert "hyperdrive: Extra inputs are not permitted" in said
    assert said.endswith("use that version here too; other studies go on")


def test_a_worker_of_that_study_alone_is_told(two):
    with pytest.raises(UnreadableStudyError, match="study theirs was made by another version"):
        two.service.queue.claim("w1", "theirs")
    assert two.service.queue.claim("w1", "ours").study == "ours"


def test_a_space_of_another_version_is_passed_over_too(bench, caplog):
    bench.create(name="theirs")
    bench.create(name="ours")
    rewrite(bench, schema.stage, "space", {"parameters": {"x": {"type": "graph"}}}, "theirs")
    assert bench.must_claim().study == "ours"
    assert "study theirs" in warnings(caplog)[0]


def test_the_reaper_leaves_its_trials_to_those_who_can_read_it_and_takes_back_the_others(bench):
    bench.create(name="theirs")
    held = bench.must_claim()
    bench.create(name="ours")
    other = bench.service.queue.claim("w2", "ours")
    for assignment in (held, other):
        bench.run_out(assignment)
    from_the_future(bench, "theirs")
    assert [row.id for row in bench.service.reaper.reap()] == [other.lease.trial_id]
    assert bench.trial(held).state is TrialState.RUNNING


def test_what_a_later_version_knows_of_a_model_is_passed_over(bench, trained):
    bench.create(**trained)
    facts = {"org/small": {"family": "llama", "hidden_size": 64, "experts": 8}}
    with bench.service.db.transaction():
        row = bench.service.study_rows.get("s")
        which = schema.study.c.id == row.id
        bench.service.db.connection.execute(update(schema.study).where(which).values(facts=facts))
        assert bench.service.study_rows.get("s").facts["org/small"].hidden_size == 64
    assert bench.must_claim().study == "s"


def test_what_a_later_version_measured_of_a_trial_is_shown_as_it_is_and_otherwise_passed_over(bench, trained):
    bench.create(**trained)
    odd = {"tokens": "many", "peak_memory_gb": None, "memory_of": ["lora"], "device": 5, "hyperdrive": {"warp": 9}}
    first = bench.must_claim()
    bench.complete(first)
    with bench.service.db.transaction():
        which = schema.trial.c.id == first.lease.trial_id
        bench.service.db.connection.execute(update(schema.trial).where(which).values(facts=odd))
    assert bench.trial(first).facts.flat() == odd
    assert bench.trial(first).facts.training.tokens is None
    assert bench.must_claim().config.memory_correction == 1.0
