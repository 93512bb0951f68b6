"""Where a trial's files lie: under names that folders of earlier versions have too."""

from __future__ import annotations

from pathlib import Path

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.wire.attempt_folder import AttemptFolder, log_folder, trial_folder
from tests.trials import assignment

CONFIG = TrialConfig(study="mine", stage="search", parameters={}, seed=1)
TRIAL = Path("/out/mine/trials/search-0007")


def test_an_attempt_has_a_folder_in_its_trials() -> None:
    folder = AttemptFolder.of(Path("/out"), assignment(CONFIG, "mine", number=7, attempt=2))
    assert folder.path == TRIAL / "attempt-2"
    assert folder.trial == trial_folder(Path("/out"), "mine", "search-0007") == TRIAL


def test_the_files_of_an_attempt_have_the_names_they_always_had() -> None:
    folder = AttemptFolder(Path("/a"))
    assert {
        "configuration": folder.configuration,
        "checkpoint": folder.checkpoint,
        "partial": folder.partial_checkpoint,
        "undelivered": folder.undelivered,
        "adapter": folder.adapter,
        "answers": folder.answers,
    } == {
        "configuration": Path("/a/trial.json"),
        "checkpoint": Path("/a/checkpoint"),
        "partial": Path("/a/checkpoint.partial"),
        "undelivered": Path("/a/undelivered.jsonl"),
        "adapter": Path("/a/adapter"),
        "answers": Path("/a/answers.jsonl"),
    }
    assert log_folder(Path("/out")) == Path("/out/logs")


def test_the_first_attempts_are_listed_in_order() -> None:
    assert [each.path.name for each in AttemptFolder.first(TRIAL, 3)] == ["attempt-1", "attempt-2", "attempt-3"]
    assert AttemptFolder.first(TRIAL, 0) == []


def test_attempts_that_left_a_folder_are_found(tmp_path: Path) -> None:
    for name in ("attempt-1", "attempt-12", "best"):
        (tmp_path / name).mkdir()
    assert {each.path.name for each in AttemptFolder.found_in(tmp_path)} == {"attempt-1", "attempt-12"}
    assert AttemptFolder.found_in(tmp_path / "nowhere") == []


def test_earlier_attempts_are_those_that_there_are_the_latest_first_whatever_the_number(tmp_path):
    for name in ("attempt-2", "attempt-10", "attempt-9", "attempt-1000000000000", "attempt-x", "other-1"):
        (tmp_path / name).mkdir()
    earlier = AttemptFolder.numbered(tmp_path, 1_000_000_000_000).earlier
    assert [each.path.name for each in earlier] == ["attempt-10", "attempt-9", "attempt-2"]
    assert AttemptFolder(tmp_path / "attempt-x").earlier == []
    assert AttemptFolder(tmp_path / "pack-140234").earlier == []
