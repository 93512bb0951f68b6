"""Nothing that a command starts outlives its trial, wherever it hides."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hpo_service.objective.offspring import end_offspring, kill, offspring

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_descendants_in_sessions_of_their_own_are_ended_and_those_from_before_are_not() -> None:
    earlier = subprocess.Popen(SLEEPER)
    try:
        before = offspring()
        assert earlier.pid in {process.pid for process in before}
        later = subprocess.Popen(SLEEPER, start_new_session=True)
        end_offspring(but_not=before)
        assert _gone(later.pid)
        assert earlier.poll() is None
        later.wait()
    finally:
        earlier.kill()
        earlier.wait()


def test_a_process_that_is_gone_has_no_offspring_and_is_killed_without_trouble() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    seen = psutil.Process(process.pid)
    process.wait()
    assert offspring(process.pid) == set()
    kill({seen})


@pytest.mark.parametrize("how", ["setsid", "daemon"])
def test_what_a_command_leaves_behind_ends_with_its_trial(tmp_path: Path, how: str) -> None:
    leaves = (
        f"import subprocess; print(subprocess.Popen({SLEEPER!r}, start_new_session=True, stdout=-3).pid, flush=True)"
    )
    if how == "daemon":
        leaves = f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {leaves!r}]).decode())"
    trial = (
        "from hpo_service.objective.offspring import end_offspring, offspring\n"
        "from hpo_service.wire.orphans import adopt_orphans\n"
        "import subprocess, sys\n"
        "adopt_orphans()\n"
        "before = offspring()\n"
        f"print(subprocess.check_output([sys.executable, '-c', {leaves!r}]).decode(), flush=True)\n"
        "end_offspring(before)\n"
        "print(len(offspring()))\n"
    )
    out = subprocess.run([sys.executable, "-c", trial], capture_output=True, text=True, timeout=60, check=True).stdout
    escaped, left = map(int, out.split())
    assert left == 0
    assert _gone(escaped)
