"""The objective child as a process, driven over its pipes, and what becomes of it when either side is killed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpo_service.domain.study.sections.objective import ObjectiveSpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import ChildError
from hpo_service.wire.messages import Admit, Continue, Failed, Finished, Heartbeat, Reported, Started
from hpo_service.worker.child import OBJECTIVE, Child
from tests.trials import admit, stop

PATIENCE = 60.0
"""Seconds until a test gives up."""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    """A running objective child that finds modules in the test's folder."""
    monkeypatch.chdir(tmp_path)
    child = Child(OBJECTIVE, tmp_path / "child.log", {})
    yield child
    child.kill()


def _admit(folder: Path, trial: str = "s", **objective: str) -> Admit:
    config = TrialConfig(
        study="s", stage="search", parameters={"lr": 0.5}, seed=1, objective=ObjectiveSpec(**objective)
    )
    return admit(config, folder / "attempt-1", trial)


def _next(child: Child) -> Any:
    """The next message that is no heartbeat."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        message = child.receive(0.1)
        if message is not None and not isinstance(message, Heartbeat):
            return message
    pytest.fail("the child said nothing")


def _eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def _gone(pid: int) -> bool:
    def gone() -> bool:
        try:
            return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    return _eventually(gone)


def _sleeping_command(folder: Path) -> str:
    """A command that writes its process number and that of one it started, and sleeps."""
    text = (
        "import os, subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        "open('pids.part', 'w').write(f'{os.getpid()} {p.pid}')\n"
        "os.rename('pids.part', 'pids')\n"
        "time.sleep(600)\n"
    )
    (folder / "sleeps.py").write_text(text)
    return f"{shlex.quote(sys.executable)} -S sleeps.py"


def _started(folder: Path) -> list[int]:
    assert _eventually((folder / "pids").exists)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def test_trials_are_run_one_after_the_other_and_prints_do_not_disturb_the_pipe(child: Child, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import os\n"
        "def train(trial):\n"
        "    print('printed by the function', flush=True)\n"
        "    os.system('echo printed by a shell')\n"
        "    trial.report(1, float('nan'))\n"
        "    return trial.parameters['lr'] * 3\n"
        "def fail(trial):\n"
        "    raise ValueError('no')\n"
    )
    child.send(_admit(tmp_path, python="own:train"))
    assert isinstance(_next(child), Started)
    report = _next(child)
    assert isinstance(report, Reported)
    assert report.report.value != report.report.value
    child.send(Continue(trial=report.trial))
    finished = _next(child)
    assert isinstance(finished, Finished)
    assert (finished.outcome.kind, finished.outcome.value) == (OutcomeKind.COMPLETE, 1.5)
    child.send(_admit(tmp_path, "second", python="own:fail"))
    assert isinstance(_next(child), Started)
    failed = _next(child)
    assert isinstance(failed, Failed)
    assert (failed.trial, failed.reason, failed.retryable) == ("second/search-0000/1", "ValueError: no", True)
    child.close(PATIENCE)
    log = child.log.read_text()
    assert "printed by the function" in log
    assert "printed by a shell" in log


def test_a_command_ends_with_the_order_to_stop_and_the_child_lives_on(child: Child, tmp_path: Path) -> None:
    child.send(_admit(tmp_path, command=_sleeping_command(tmp_path)))
    assert isinstance(_next(child), Started)
    pids = _started(tmp_path)
    child.send(stop("release", "the worker leaves", "s/search-0000/1"))
    finished = _next(child)
    assert (finished.outcome.kind, finished.outcome.reason) == (OutcomeKind.RELEASED, "the worker leaves")
    assert all(_gone(pid) for pid in pids)
    assert not child.ended


def test_a_child_that_is_killed_leaves_nothing_running(child: Child, tmp_path: Path) -> None:
    child.send(_admit(tmp_path, command=_sleeping_command(tmp_path)))
    pids = _started(tmp_path)
    child.kill()
    assert all(_gone(pid) for pid in pids)


def test_a_child_that_was_killed_by_the_system_leaves_nothing_running(child: Child, tmp_path: Path) -> None:
    child.send(_admit(tmp_path, command=_sleeping_command(tmp_path)))
    assert isinstance(_next(child), Started)
    pids = _started(tmp_path)
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildError, match="SIGKILL"):
        _next(child)
    child.kill()
    assert all(_gone(pid) for pid in pids)


def test_a_supervisor_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    order = _admit(tmp_path, command=_sleeping_command(tmp_path))
    (tmp_path / "admit").write_text(order.model_dump_json())
    text = (
        "import pathlib, time\n"
        "from hpo_service.wire.messages import Admit\n"
        "from hpo_service.worker.child import OBJECTIVE, Child\n"
        "child = Child(OBJECTIVE, pathlib.Path('child.log'), {})\n"
        "child.send(Admit.model_validate_json(pathlib.Path('admit').read_text()))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", text], cwd=tmp_path, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        pids = _started(tmp_path)
        supervisor.kill()
    assert _gone(pid)
    assert all(_gone(started) for started in pids)
