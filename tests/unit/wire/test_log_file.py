"""Logs are cut to head and tail, and the oldest of many go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpo_service.wire import log_file
from hpo_service.wire.log_file import LogTail, cut, prune


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "LIMIT_BYTES", 2000)
    monkeypatch.setattr(log_file, "HEAD_BYTES", 100)
    monkeypatch.setattr(log_file, "TAIL_BYTES", 500)


def test_a_short_log_and_one_that_is_not_there_stay_as_they_are(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert not cut(log)
    log.write_bytes(b"x" * 2000)
    assert not cut(log)
    assert log.stat().st_size == 2000


def test_a_long_log_keeps_its_head_and_its_tail_and_says_what_is_missing_however_often_it_is_cut(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    with log.open("ab") as writer:
        written = 0
        for round_ in range(5):
            while log.stat().st_size <= 2000:
                line = f"line {written:06d}\n".encode()
                writer.write(line)
                writer.flush()
                written += 1
            assert cut(log), round_
            assert log.stat().st_size < 700
    text = log.read_text()
    assert text.startswith("line 000000\n")
    assert text.endswith(f"line {written - 1:06d}\n")
    missing = int(text.partition("\n[")[2].partition(" bytes are missing")[0])
    assert text.count("bytes are missing here") == 1
    assert missing == pytest.approx(written * len("line 000000\n") - log.stat().st_size, abs=150)


def test_logs_that_nobody_touched_for_a_week_go_and_of_many_the_latest_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "KEPT_LOGS", 2)
    hours = {"now": 0, "hour": 1, "living": 1.5, "surplus": 3, "old": 200}
    for name, age in hours.items():
        path = tmp_path / f"worker-{name}.log"
        path.touch()
        os.utime(path, (1e9 - 3600 * age,) * 2)
    (tmp_path / "study.log").touch()
    os.utime(tmp_path / "study.log", (0, 0))
    assert prune(tmp_path, "worker-*.log", clock=lambda: 1e9) == 2
    assert {path.name for path in tmp_path.iterdir()} == {
        "worker-now.log", "worker-hour.log", "worker-living.log", "study.log",
    }  # fmt: skip
    assert prune(tmp_path / "nowhere", "worker-*.log") == 0


def test_of_a_log_that_is_followed_whole_new_lines_are_told_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    tail = LogTail(log)
    assert tail.lines() == []
    with log.open("a") as file:
        file.write("one\ntw")
    assert tail.lines() == ["one"]
    with log.open("a") as file:
        file.write("o\n")
    assert tail.lines() == ["two"]
    assert tail.lines() == []


def test_a_followed_log_that_was_cut_or_is_not_there_is_followed_from_where_it_ends(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tail = LogTail(log)
    assert tail.lines() == []
    log.write_text("a long first line\n")
    assert tail.lines() == ["a long first line"]
    log.write_text("short\n")
    assert tail.lines() == []
    with log.open("a") as file:
        file.write("after\n")
    assert tail.lines() == ["after"]
