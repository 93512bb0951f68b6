"""Whoever only looks waits for no writer, and makes none wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.settings import Settings

STUDY = {
    "name": "s",
    "objective": {"python": "nobody:calls_it"},
    "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
    "search": {"budget": {"trials": 4}, "pruner": "none"},
    "confirm": {"enabled": False},
}
LOOKS = {
    "snapshot": lambda service: service.reader.snapshot("s"),
    "list": lambda service: service.overview.lines(),
    "outline": lambda service: service.reader.outline("s", 2),
    "finished": lambda service: service.checks.finished("s"),
    "require": lambda service: service.checks.require("s"),
    "workers": lambda service: service.workers.list_all(),
    "activities": lambda service: service.workers.activities(),
    "watch": lambda service: service.watch.snapshot("s"),
    "reap with nothing to do": lambda service: service.reaper.reap(),
    "advance with nothing to do": lambda service: service.stages.advance_all(),
}


@pytest.fixture
def services(tmp_path: Path):
    """Two processes' services on one SQLite file; neither waits for the other's lock."""
    settings = Settings(storage=f"sqlite:///{tmp_path}/hpo.db?timeout=0", output=tmp_path, cache=tmp_path)
    one, other = Service(settings), Service(settings)
    one.upgrade()
    one.studies.create(StudySpec.model_validate(STUDY))
    yield one, other
    one.db.dispose()
    other.db.dispose()


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_look_passes_a_writer_that_holds_the_lock(services, look):
    writer, reader = services
    look(reader)
    with writer.db.transaction():
        writer.worker_rows.register("w1", "host", 1, "0", "cpu")
        look(reader)


def test_a_claim_that_finds_nothing_passes_a_writer_too(services):
    writer, idle = services
    with writer.db.transaction():
        writer.worker_rows.register("w1", "host", 1, "0", "cpu")
        stage = writer.study_rows.stages(writer.study_rows.get("s").id)[0]
        writer.study_rows.limit_stage(stage.id, 0)
    with writer.db.transaction():
        writer.worker_rows.register("w2", "host", 1, "0", "cpu")
        assert idle.queue.claim("w1") is None
