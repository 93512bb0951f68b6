"""Checkpoints of trials that ended without their holder go; whatever else may still be needed stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.report import Report
from hpo_service.filestore.attempts import CHECKPOINT, place_of
from hpo_service.filestore.store import FileStore
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.wire.undelivered import keep_undelivered
from hpo_service.worker.handover import prepare_folder
from hpo_service.worker.sweep import sweep

Trial = Callable[..., Assignment]


def _left(output: Path, given: Assignment) -> AttemptFolder:
    """What a holder left that died."""
    folder = AttemptFolder.of(output, given)
    prepare_folder(folder, given)
    for path in (folder.checkpoint, folder.adapter):
        path.mkdir()
        (path / "weights").write_text("weights")
    keep_undelivered(folder, Report(step=1, fraction=0.5, value=1.0), given.identity)
    return folder


def test_what_ended_trials_left_goes_and_only_that(tmp_path: Path, trial: Trial) -> None:
    ended, alive = (_left(tmp_path, trial(number, identity=f"trial {number}")) for number in (1, 2))
    sweep(tmp_path, {"trial 1"}.intersection)
    assert not ended.checkpoint.exists()
    assert ended.adapter.exists()
    assert ended.undelivered.exists()
    assert alive.checkpoint.exists()
    assert alive.unfinished.exists()
    assert not ended.unfinished.exists()


def test_nothing_is_asked_where_no_trial_has_left_anything(tmp_path: Path) -> None:
    asked: list[Any] = []
    sweep(tmp_path / "nowhere", lambda given: asked.append(given) or ())
    sweep(tmp_path, lambda given: asked.append(given) or ())
    assert asked == []


def test_a_worker_sweeps_when_it_has_nothing_to_do_and_before_it_leaves(world: Any, trial: Trial) -> None:
    folder = _left(world.output, trial(3, identity="trial 3"))
    world.ended.add("trial 3")
    world.run()
    assert not folder.checkpoint.exists()


def test_what_a_holder_saves_after_it_lost_its_trial_goes_too(world: Any, trial: Trial) -> None:
    given = trial(0, identity="trial 0")
    world.script.seconds = 1000.0
    world.queue.stale.add(0)
    world.run(given, max_trials=1)
    folder = AttemptFolder.of(world.output, given)
    assert folder.unfinished.exists()
    folder.checkpoint.mkdir(exist_ok=True)
    sweep(world.output, {"trial 0"}.intersection)
    assert not folder.checkpoint.exists()


def test_the_store_is_told_of_each_whose_checkpoints_are_removed(tmp_path: Path, trial: Trial) -> None:
    told: list[tuple[str, str, str]] = []
    for number in (1, 2):
        _left(tmp_path, trial(number, identity=f"trial {number}"))
    sweep(tmp_path, {"trial 1"}.intersection, lambda *place: told.append(place))
    assert told == [("s", "search-0001", "trial 1")]


@pytest.mark.parametrize("holder", ["this worker", "nobody"])
def test_a_trial_that_has_ended_leaves_no_checkpoint_in_the_store(
    world: Any, trial: Trial, tmp_path: Path, holder: str
) -> None:
    given, store = trial(0, identity="trial 0"), FileStore(str(tmp_path / "store"))
    (tmp_path / "file").write_text("state")
    place = place_of(given, 1, CHECKPOINT)
    store.put(place, {"file": tmp_path / "file"}, {})
    if holder == "nobody":
        _left(world.output, given)
        world.ended.add("trial 0")
        world.run(store=store.url)
    else:
        world.run(given, store=store.url)
    assert store.newest(place) is None
