"""How a checkpoint passes from attempt to attempt of a trial."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.worker.handover import discard_checkpoints, prepare_folder

Trial = Callable[..., Assignment]


@pytest.fixture
def attempt(tmp_path: Path, trial: Trial) -> Callable[..., tuple[AttemptFolder, Assignment]]:
    """Makes an attempt's folder the way a worker does, and a checkpoint in it where one is given."""

    def attempt(number: int, *, checkpoint: str = "", trial_number: int = 7) -> tuple[AttemptFolder, Assignment]:
        given = trial(trial_number, attempt=number)
        folder = AttemptFolder.of(tmp_path, given)
        prepare_folder(folder, given)
        if checkpoint:
            (folder.path / "checkpoint" / "deep").mkdir(parents=True, exist_ok=True)
            (folder.path / "checkpoint" / "deep" / "state").write_text(checkpoint)
        return folder, given

    return attempt


Attempt = Callable[..., tuple[AttemptFolder, Assignment]]


def _state(folder: AttemptFolder) -> str | None:
    file = folder.path / "checkpoint" / "deep" / "state"
    return file.read_text() if file.exists() else None


def test_each_attempt_has_a_folder_of_its_own(tmp_path: Path, trial: Trial) -> None:
    first, second = AttemptFolder.of(tmp_path, trial(7)), AttemptFolder.of(tmp_path, trial(7, attempt=2))
    assert first.path == tmp_path / "s" / "trials" / "search-0007" / "attempt-1"
    assert second.trial == first.trial != second.path


def test_the_newest_earlier_checkpoint_is_handed_over(attempt: Attempt) -> None:
    attempt(1, checkpoint="old")
    attempt(2, checkpoint="newer")
    attempt(3)
    shutil.rmtree(attempt(3)[0].path / "checkpoint")
    folder, given = attempt(4)
    assert _state(folder) == "newer"
    assert prepare_folder(folder, given)
    assert not list(folder.path.glob("*.partial"))


def test_the_earlier_attempt_keeps_its_own_copy(attempt: Attempt) -> None:
    earlier, _ = attempt(1, checkpoint="state")
    folder, _ = attempt(2)
    (folder.path / "checkpoint" / "deep" / "state").write_text("further")
    assert _state(earlier) == "state"


def test_a_first_attempt_starts_afresh_whatever_an_older_study_left_there(attempt: Attempt) -> None:
    folder, given = attempt(1, checkpoint="of a study that was deleted")
    assert not prepare_folder(folder, given)
    assert _state(folder) is None


def test_a_checkpoint_of_another_configuration_is_not_handed_over(attempt: Attempt) -> None:
    earlier, _ = attempt(1, checkpoint="of a study that was deleted")
    _, other = attempt(1, trial_number=8)
    (earlier.path / "trial.json").write_text(other.config.model_dump_json(exclude_defaults=True))
    assert _state(attempt(2)[0]) is None


def test_a_full_disk_leaves_the_checkpoint_out_and_nothing_half_written(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt(1, checkpoint="state")

    def full(_source: Path, target: Path, **_: object) -> None:
        target.mkdir()
        (target / "half").write_text("h")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    folder, given = attempt(2)
    assert not prepare_folder(folder, given)
    assert sorted(path.name for path in folder.path.iterdir()) == ["trial.json"]


def test_a_checkpoint_that_changes_while_it_is_copied_is_copied_again(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt(1, checkpoint="state")
    copy, calls = shutil.copytree, []

    def changing(source: Path, target: Path, **_: object) -> None:
        calls.append(source)
        if len(calls) == 1:
            target.mkdir()
            raise shutil.Error([("a file that was there", "is", "gone")])
        monkeypatch.setattr(shutil, "copytree", copy)
        copy(source, target)

    monkeypatch.setattr(shutil, "copytree", changing)
    folder, _ = attempt(2)
    assert (_state(folder), len(calls)) == ("state", 2)


def test_a_folder_that_cannot_be_made_costs_the_checkpoint_not_the_worker(
    tmp_path: Path, trial: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "s").write_text("a file where a folder belongs")
    given = trial(7, attempt=2)
    assert not prepare_folder(AttemptFolder.of(tmp_path, given), given)
    assert "cannot be written" in caplog.text


def test_the_checkpoints_of_a_trial_that_ended_go_and_the_rest_stays(attempt: Attempt) -> None:
    first, _ = attempt(1, checkpoint="state")
    second, _ = attempt(2)
    (second.path / "adapter").mkdir()
    discard_checkpoints(second)
    assert not (first.path / "checkpoint").exists()
    assert not (second.path / "checkpoint").exists()
    assert (second.path / "adapter").exists()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody else's, beside the studies."""
    folder = tmp_path / "elsewhere"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "state").write_text("secret")
    return folder


@pytest.mark.parametrize("name", ["checkpoint", "trial.json", "undelivered.jsonl", "checkpoint.partial", "adapter"])
@pytest.mark.parametrize("planted", [1, 2])
def test_a_link_in_the_place_of_an_attempts_own_file_is_removed_not_followed(
    attempt: Attempt, outside: Path, name: str, planted: int, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = attempt(1, checkpoint="state")
    place = AttemptFolder.numbered(first.trial, planted).path / name
    place.parent.mkdir(exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(outside)
    folder, _ = attempt(2)
    assert _state(folder) in (None, "state")
    assert (outside / "deep" / "state").read_text() == "secret"
    assert not place.is_symlink()
    assert f"{place} is a symbolic link" in caplog.text


def test_an_attempts_folder_that_is_a_link_is_made_anew(attempt: Attempt, outside: Path) -> None:
    first, _ = attempt(1, checkpoint="state")
    (first.trial / "attempt-2").symlink_to(outside)
    folder, _ = attempt(2)
    assert _state(folder) == "state"
    assert sorted(path.name for path in outside.iterdir()) == ["deep"]


def test_links_inside_a_checkpoint_are_followed_within_it_alone(attempt: Attempt, outside: Path) -> None:
    first, _ = attempt(1, checkpoint="state")
    top = first.checkpoint
    (top / "latest").symlink_to("deep")
    (top / "deep" / "file").symlink_to(outside / "deep" / "state")
    (top / "folder").symlink_to(outside)
    (top / "up").symlink_to("..")
    (top / "deep" / "round").symlink_to(".")
    folder, _ = attempt(2)
    assert _state(folder) == "state"
    assert (folder.checkpoint / "latest" / "state").read_text() == "state"
    assert sorted(path.name for path in folder.checkpoint.iterdir()) == ["deep", "latest"]
    assert [path.name for path in (folder.checkpoint / "deep").iterdir()] == ["state"]


def test_ending_a_trial_leaves_what_a_link_leads_to(attempt: Attempt, outside: Path) -> None:
    folder, _ = attempt(1)
    folder.checkpoint.symlink_to(outside)
    discard_checkpoints(folder)
    assert (outside / "deep" / "state").exists()


OLD_TEXTS = [
    '{"study":"mine","stage":"confirm","parameters":{"learning_rate":0.0002,"lora_rank":8,"scheduler":"cosine"},"seed":42,'
    '"model":{"base":"org/small","target":"org/large","dtype":"bfloat16"},"model_name":"org/large",'
    '"data":{"source":"org/rows","split":{"validation":0.2}},'
    '"training":{"method":"dora","lora_rank":8,"target_modules":["q_proj","v_proj"],"epochs":2},"score_test":true,'
    '"keep_adapter":true,"evaluation":{"metrics":["token_f1"],"stages":["verify","confirm"]},'
    '"tracking":{"trackers":["tensorboard"]}}',
    '{"study":"own","stage":"search","parameters":{"lr":0.01,"opt":"adam","on":true,"n":3},"seed":1,'
    '"objective":{"command":"./train --lr {lr}"}}',
]
"""Files `trial.json` as they have been written beside checkpoints from the first version on."""


@pytest.mark.parametrize("text", OLD_TEXTS, ids=["trainer", "objective"])
def test_a_checkpoint_that_an_earlier_version_left_is_handed_over(tmp_path: Path, trial: Trial, text: str) -> None:
    config = TrialConfig.model_validate_json(text)
    given = trial(7, attempt=2).model_copy(update={"config": config})
    old = tmp_path / "s" / "trials" / "search-0007" / "attempt-1"
    (old / "checkpoint" / "deep").mkdir(parents=True)
    (old / "checkpoint" / "deep" / "state").write_text("old")
    (old / "trial.json").write_text(text)
    folder = AttemptFolder.of(tmp_path, given)
    assert prepare_folder(folder, given)
    assert _state(folder) == "old"
    assert (folder.path / "trial.json").read_text() == text


LIFE = "study 1, trial 7 of 10.5"


def _claimed(output: Path, trial: Trial, number: int, **changes: object) -> tuple[AttemptFolder, bool]:
    """The folder of a claimed attempt, and whether it resumes."""
    given = trial(7, attempt=number, **{"identity": LIFE, **changes})
    folder = AttemptFolder.of(output, given)
    return folder, prepare_folder(folder, given)


def _save(folder: AttemptFolder, text: str) -> None:
    (folder.checkpoint / "deep").mkdir(parents=True, exist_ok=True)
    (folder.checkpoint / "deep" / "state").write_text(text)


def test_a_checkpoint_passes_on_whatever_was_measured_of_memory_meanwhile(tmp_path: Path, trial: Trial) -> None:
    first, second = trial(7), trial(7, attempt=2)
    prepare_folder(AttemptFolder.of(tmp_path, first), first)
    _save(AttemptFolder.of(tmp_path, first), "state")
    corrected = second.model_copy(update={"config": second.config.model_copy(update={"memory_correction": 1.07})})
    assert prepare_folder(AttemptFolder.of(tmp_path, corrected), corrected)


def test_a_checkpoint_of_a_trial_that_was_deleted_is_set_aside_and_that_is_said(
    tmp_path: Path, trial: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = _claimed(tmp_path, trial, 1, identity="study 1, trial 3 of 5.5")
    _save(first, "of a study that was deleted")
    second, resumes = _claimed(tmp_path, trial, 2)
    assert not resumes
    assert _state(second) is None
    assert not first.checkpoint.exists()
    assert (first.refused_checkpoint / "deep" / "state").exists()
    assert "that was deleted" in caplog.text


def test_reports_that_a_deleted_trial_left_in_this_attempts_place_are_set_aside(tmp_path: Path, trial: Trial) -> None:
    folder, _ = _claimed(tmp_path, trial, 1)
    folder.undelivered.write_text("of a study that was deleted, by an earlier version")
    _claimed(tmp_path, trial, 1)
    assert not folder.undelivered.exists()
    assert folder.refused_undelivered.exists()


def test_of_earlier_attempts_only_the_checkpoint_that_was_taken_stays(tmp_path: Path, trial: Trial) -> None:
    folders = []
    for number in range(1, 6):
        folder, _ = _claimed(tmp_path, trial, number)
        _save(folder, f"after {number}")
        folders.append(folder)
    assert [folder.checkpoint.exists() for folder in folders] == [False, False, False, True, True]


def test_an_empty_folder_is_no_checkpoint_and_the_one_before_it_is_taken(tmp_path: Path, trial: Trial) -> None:
    first, _ = _claimed(tmp_path, trial, 1)
    _save(first, "state")
    second, _ = _claimed(tmp_path, trial, 2)
    shutil.rmtree(second.checkpoint)
    second.checkpoint.mkdir()
    third, resumes = _claimed(tmp_path, trial, 3)
    assert resumes
    assert _state(third) == "state"


@pytest.mark.parametrize(
    "failures, last, fresh",
    [((0, 1, 2), True, True), ((0, 1, 2), False, False), ((0, 0, 1), True, False), ((4, 5, 6), True, True)],
    ids=["died twice", "another attempt may follow", "released once", "failures before it"],
)
def test_the_last_attempt_starts_afresh_where_two_died_on_the_same_checkpoint(
    tmp_path: Path, trial: Trial, caplog: pytest.LogCaptureFixture, failures: tuple[int, ...], last: bool, fresh: bool
) -> None:
    first, _ = _claimed(tmp_path, trial, 1, failures=failures[0])
    _save(first, "it dies on this")
    assert _claimed(tmp_path, trial, 2, failures=failures[1])[1]
    third, resumes = _claimed(tmp_path, trial, 3, failures=failures[2], last=last)
    assert resumes == (not fresh)
    assert (_state(third) is None) == fresh
    assert ("starts afresh" in caplog.text) == fresh


def test_the_last_attempt_resumes_where_the_one_before_it_got_further(tmp_path: Path, trial: Trial) -> None:
    first, _ = _claimed(tmp_path, trial, 1)
    _save(first, "state")
    second, _ = _claimed(tmp_path, trial, 2, failures=1)
    _save(second, "further")
    third, resumes = _claimed(tmp_path, trial, 3, failures=2, last=True)
    assert resumes
    assert _state(third) == "further"


def test_one_checkpoint_of_a_trial_is_kept_aside_and_goes_with_the_others(tmp_path: Path, trial: Trial) -> None:
    folders = []
    for number in (1, 2, 3):
        folder, _ = _claimed(tmp_path, trial, number, identity=f"study {number}, trial {number} of 5.5")
        _save(folder, "state")
        folders.append(folder)
    _claimed(tmp_path, trial, 4)
    assert sum(folder.refused_checkpoint.exists() for folder in folders) == 1
    discard_checkpoints(folders[0])
    assert not any(folder.refused_checkpoint.exists() for folder in folders)
    assert not folders[0].unfinished.exists()


def test_the_seal_of_a_checkpoint_passes_on_with_it(tmp_path: Path, trial: Trial) -> None:
    first, _ = _claimed(tmp_path, trial, 1)
    _save(first, "state")
    first.seal.write_text("digests")
    second, _ = _claimed(tmp_path, trial, 2)
    assert second.seal.read_text() == "digests"
    assert _claimed(tmp_path, trial, 3)[0].seal.exists()
