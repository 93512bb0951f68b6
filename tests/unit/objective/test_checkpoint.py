"""What an objective saved is sealed at an orderly end, and looked at before it is taken up again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo_service.domain.study.sections.objective import ObjectiveSpec
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.objective.__main__ import run_objective
from hpo_service.objective.checkpoint import break_seal, seal
from hpo_service.objective.context import TrialContext
from hpo_service.wire.child import Stopped, TrialLink

Link = Callable[..., TrialLink]


def train(trial: TrialContext) -> float:
    """An objective that counts its attempts in its checkpoint."""
    file = trial.checkpoint_folder / "count"
    file.write_text(f"{int(file.read_text()) + 1 if file.exists() else 1}")
    trial.report(1, 2.0)
    if trial.parameters["lr"] < 0:
        raise ValueError("it fails")
    return float(file.read_text())


OWN = ObjectiveSpec(python=f"{__name__}:train")


def _flip(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


@pytest.fixture
def released(talk: object, link: Link, monkeypatch: pytest.MonkeyPatch) -> TrialLink:
    """A trial that was released after it had saved."""
    trial = link(objective=OWN)
    talk.order("release")  # type: ignore[attr-defined]
    with pytest.raises(Stopped):
        run_objective(trial)
    return trial


def test_what_a_released_trial_saved_is_sealed_and_goes_on_where_it_is_whole(released: TrialLink, link: Link) -> None:
    assert released.folder.seal.exists()
    outcome = run_objective(link(objective=OWN))
    assert (outcome.kind, outcome.value) == (OutcomeKind.COMPLETE, 2.0)
    assert outcome.facts.warnings.checkpoint_refused is None
    assert not released.folder.seal.exists()


def test_a_checkpoint_with_a_flipped_bit_is_set_aside_said_and_the_trial_starts_afresh(
    released: TrialLink, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    _flip(released.folder.checkpoint / "count")
    outcome = run_objective(link(objective=OWN))
    assert outcome.value == 1.0
    assert outcome.facts.warnings.checkpoint_refused == "the checkpoint is damaged: count is not as it was left"
    assert (released.folder.refused_checkpoint / "count").exists()
    assert caplog.text.count("is set aside") == 1


def test_a_missing_file_and_an_unreadable_seal_are_damage(released: TrialLink) -> None:
    (released.folder.checkpoint / "count").unlink()
    assert break_seal(released) == "the checkpoint is damaged: count is not as it was left"
    released.folder.seal.write_text('{"trial": 3')
    assert break_seal(released).startswith("the checkpoint's seal cannot be read: ")
    assert break_seal(released) == ""


def test_a_seal_of_a_trial_that_was_deleted_is_refused(released: TrialLink) -> None:
    released.assignment = released.assignment.model_copy(update={"identity": "study 2, trial 9 of 99.5"})
    assert break_seal(released) == "the checkpoint belongs to a trial of the same name that was deleted"


def test_a_trial_that_failed_is_sealed_too_and_one_that_was_killed_is_taken_as_it_is(link: Link) -> None:
    trial = link(objective=OWN, parameters={"lr": -1.0})
    with pytest.raises(ValueError, match="it fails"):
        run_objective(trial)
    assert trial.folder.seal.exists()
    trial.folder.seal.unlink()
    _flip(trial.folder.checkpoint / "count")
    assert break_seal(trial) == ""


def test_a_forked_copy_seals_nothing(link: Link) -> None:
    trial = link(objective=OWN)
    trial.folder.checkpoint.mkdir(parents=True)
    pid = os.fork()
    if pid == 0:
        seal(trial)
        os._exit(0)
    os.waitpid(pid, 0)
    assert not trial.folder.seal.exists()
    seal(trial)
    assert trial.folder.seal.exists()


def test_without_a_checkpoint_there_is_nothing_to_seal(link: Link, tmp_path: Path) -> None:
    trial = link(objective=OWN)
    seal(trial)
    assert not trial.folder.seal.exists()
    shutil.rmtree(tmp_path, ignore_errors=True)
