"""The supervisor's end of a child process, with small real processes at the other end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpo_service.domain.trial.decision import Decision
from hpo_service.errors import ChildError
from hpo_service.wire import log_file
from hpo_service.wire.messages import Continue, Failed, Heartbeat, Reported, Shutdown, Stop
from hpo_service.worker import child as under_test
from hpo_service.worker.child import TRAINER, Child, training_command

PATIENCE = 20.0
"""Seconds until a test gives up; all of this takes milliseconds on an idle machine."""

SAY = "import json, os, signal, subprocess, sys, time\n"
SAY += "say = lambda **message: (sys.stdout.write(json.dumps(message) + '\\n'), sys.stdout.flush())\n"
LISTEN = SAY + "say(type='heartbeat')\nfor line in sys.stdin:\n    m = json.loads(line)\n"
SLEEPER = "[sys.executable, '-S', '-c', 'import time; time.sleep(600)']"

Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a child that runs the given Python text."""
    children = []

    def start(text: str, clock: Callable[[], float] = time.monotonic, **environment: str) -> Child:
        command = (sys.executable, "-I", "-S", "-c", text)
        children.append(Child(command, tmp_path / "logs" / "child.log", environment, clock))
        return children[-1]

    yield start
    for child in children:
        child.kill()


def _next(child: Child) -> Any:
    return child.receive(PATIENCE)


def _words_at_the_end(child: Child) -> str:
    """What the child ended with, after all that it said before."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            child.receive(0.05)
        except ChildError as error:
            return str(error)
    pytest.fail("the child's end was not noticed")


def _gone(pid: int) -> bool:
    """Whether the process ends within the test's patience; one that nobody reaped counts as ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def _pids(child: Child, count: int) -> list[int]:
    """Process numbers the child tells as the reasons of failures."""
    messages = [_next(child) for _ in range(count)]
    assert all(isinstance(message, Failed) for message in messages)
    return [int(message.reason) for message in messages]


def test_messages_travel_both_ways(start: Start) -> None:
    child = start(LISTEN + "    say(type='failed', trial=m['trial'], reason=m['type'])\n")
    assert isinstance(_next(child), Heartbeat)
    child.send(Continue(trial="a"))
    child.send(Stop(trial="b", decision=Decision(action="prune", reason="enough")))
    answers = [_next(child), _next(child)]
    assert [(answer.trial, answer.reason) for answer in answers] == [("a", "continue"), ("b", "stop")]


def test_waiting_for_a_silent_child_ends_after_the_timeout(start: Start) -> None:
    child = start(LISTEN)
    _next(child)
    assert child.receive(0.01) is None
    assert child.receive(0.0) is None
    assert child.receive(-1.0) is None


def test_a_loss_that_is_not_finite_arrives_as_it_is(start: Start) -> None:
    report = '{"type": "report", "trial": "a", "report": {"step": 1, "fraction": 0.5, "value": NaN}}'
    message = _next(start(SAY + f"print('{report}', flush=True); time.sleep(600)"))
    assert isinstance(message, Reported)
    assert message.report.value != message.report.value


def test_silence_is_counted_from_what_was_heard_last_or_from_new_work(start: Start) -> None:
    now = [100.0]
    child = start(LISTEN, lambda: now[0])
    now[0] = 107.0
    assert child.silence == 7.0
    _next(child)
    assert child.silence == 0.0
    now[0] = 110.0
    child.restart_silence()
    now[0] = 111.0
    assert child.silence == 1.0


def test_a_child_has_a_session_of_its_own(start: Start) -> None:
    child = start(LISTEN)
    assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_its_standard_error_goes_to_the_log_and_its_variables_are_set(start: Start) -> None:
    child = start("import os, sys; sys.stderr.write(os.environ['COLOUR'])", COLOUR="green")
    _words_at_the_end(child)
    start("import sys; sys.stderr.write(' again')").close()
    assert child.log.read_text() == "green again"


@pytest.mark.parametrize(
    "line",
    [
        "Downloading the model: 3%",
        '{"type": "report"}',
        '{"type": "greeting"}',
        "[1, 2]",
        "",
        r"\xff\xfe",
    ],
)
def test_a_line_that_is_no_message_is_an_error_that_names_the_log(start: Start, line: str) -> None:
    child = start(SAY + f"sys.stdout.buffer.write(b'{line}\\n'); sys.stdout.flush(); time.sleep(600)")
    with pytest.raises(ChildError, match=r"no message: .*child\.log"):
        _next(child)
    assert not child.ended


@pytest.mark.parametrize(
    "text, words",
    [
        ("sys.exit(3)", "ended with status 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV;"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL (out of host memory?)"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 1)", f"was killed by signal {signal.SIGRTMIN + 1}"),
    ],
)
def test_the_end_of_the_process_is_told_with_its_cause_and_the_log(start: Start, text: str, words: str) -> None:
    assert words in (told := _words_at_the_end(start(SAY + text)))
    assert "child.log" in told


def test_what_it_said_before_it_ended_comes_first(start: Start) -> None:
    child = start(SAY + "[say(type='failed', trial=str(i), reason='x') for i in range(50)]")
    assert [_next(child).trial for _ in range(50)] == [str(i) for i in range(50)]
    assert "ended with status 0" in _words_at_the_end(child)


def test_the_end_is_told_again_to_who_asks_again(start: Start) -> None:
    child = start("")
    assert _words_at_the_end(child) == _words_at_the_end(child)
    assert child.ended


def test_sending_to_a_child_that_is_gone_is_not_an_error(start: Start) -> None:
    child = start("")
    _words_at_the_end(child)
    for _ in range(3):
        child.send(Shutdown())
    child.kill()
    child.send(Shutdown())
    assert child.ended


def test_killing_a_child_ends_all_that_it_started(start: Start) -> None:
    child = start(
        SAY
        + f"a = subprocess.Popen({SLEEPER})\n"
        + f"b = subprocess.Popen({SLEEPER}, process_group=0)\n"
        + "[say(type='failed', trial='', reason=str(p.pid)) for p in (a, b)]\n"
        + "time.sleep(600)"
    )
    started = _pids(child, 2)
    child.kill()
    assert child.ended
    assert all(_gone(pid) for pid in started)


def test_a_frozen_child_can_be_killed(start: Start) -> None:
    child = start(LISTEN)
    _next(child)
    os.kill(child.pid, signal.SIGSTOP)
    child.kill()
    assert child.ended


def test_a_child_whose_death_is_hidden_by_what_it_started_is_noticed(start: Start) -> None:
    child = start(
        SAY
        + f"p = subprocess.Popen({SLEEPER})\n"  # holds the pipe open
        + "say(type='failed', trial='', reason=str(p.pid))\n"
        + "os._exit(9)"
    )
    (started,) = _pids(child, 1)
    assert _gone(child.pid)
    assert "ended with status 9" in _words_at_the_end(child)
    assert _gone(started)


def test_a_child_whose_pipe_was_carried_out_of_its_session_is_noticed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo_service.worker.child.DRAIN_SECONDS", 0.1)
    child = start(
        SAY
        + f"p = subprocess.Popen({SLEEPER}, start_new_session=True)\n"
        + "say(type='failed', trial='', reason=str(p.pid))\n"
        + "os._exit(9)"
    )
    (escaped,) = _pids(child, 1)
    assert _gone(child.pid)
    assert "ended with status 9" in _words_at_the_end(child)
    with contextlib.suppress(ProcessLookupError):  # or whoever looks for what a child left has found it already
        os.kill(escaped, signal.SIGKILL)


def test_processes_that_a_launcher_gave_sessions_of_their_own_end_with_the_child(start: Start) -> None:
    inner = f"import subprocess, sys; p = subprocess.Popen({SLEEPER}); print(p.pid, flush=True); p.wait()"
    child = start(
        SAY
        + f"p = subprocess.Popen([sys.executable, '-S', '-c', {inner!r}], start_new_session=True, stdout=-1)\n"
        + "say(type='failed', trial='', reason=str(p.pid))\n"
        + "say(type='failed', trial='', reason=p.stdout.readline().decode().strip())\n"
        + "time.sleep(600)"
    )
    rank, grandchild = _pids(child, 2)
    assert os.getsid(grandchild) == rank != child.pid
    child.kill()
    assert _gone(rank)
    assert _gone(grandchild)


def test_what_left_the_session_and_lost_its_parent_is_found_by_a_worker_that_adopts(tmp_path: Path) -> None:
    leaves = f"import subprocess, sys; print(subprocess.Popen({SLEEPER}, start_new_session=True, stdout=-3).pid)"
    text = (
        SAY + f"say(type='failed', trial='', reason=subprocess.check_output([sys.executable, '-S', '-c', {leaves!r}])"
    )
    text += ".decode().strip())\ntime.sleep(600)"
    worker = (
        "import sys, pathlib\n"
        "from hpo_service.worker.child import Child, adopt_orphans\n"
        "adopt_orphans()\n"
        f"child = Child((sys.executable, '-S', '-c', {text!r}), pathlib.Path({str(tmp_path / 'log')!r}), {{}})\n"
        f"print(child.receive({PATIENCE}).reason, flush=True)\n"
        "child.kill()\n"
        "print(len(child.swept), flush=True)\n"
    )
    out = subprocess.run([sys.executable, "-c", worker], capture_output=True, text=True, timeout=60, check=True).stdout
    escaped, swept = map(int, out.split())
    assert _gone(escaped)
    assert swept == 2


def test_a_trainer_for_several_gpus_is_started_by_torchs_launcher_on_this_machine_alone() -> None:
    assert training_command(1) == TRAINER
    command = training_command(4)
    assert command[1:4] == ("-m", "torch.distributed.run", "--standalone")
    assert command[-4:] == ("--nproc-per-node", "4", "-m", "hpo_service.training")


@pytest.mark.parametrize("name", ["HPO_SERVICE_STORAGE", "PGPASSWORD"])
def test_the_databases_password_is_kept_from_the_child_and_the_rest_is_not(
    start: Start, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "postgresql://u:secret@host/db")
    monkeypatch.setenv("HF_TOKEN", "of the trainer")
    child = start("import os, sys; sys.stderr.write('secret' * ('secret' in str(os.environ)) + os.environ['HF_TOKEN'])")
    _words_at_the_end(child)
    assert child.log.read_text() == "of the trainer"


def test_a_child_that_is_asked_to_leave_may_clean_up(start: Start, tmp_path: Path) -> None:
    child = start(LISTEN + f"    m['type'] == 'shutdown' and open({str(tmp_path / 'bye')!r}, 'w').close()\n")
    _next(child)
    child.close(PATIENCE)
    assert (tmp_path / "bye").exists()
    assert "ended with status 0" in _words_at_the_end(child)


def test_a_child_that_does_not_leave_is_killed(start: Start) -> None:
    child = start(SAY + "say(type='heartbeat'); time.sleep(600)")
    _next(child)
    child.close(0.05)
    assert "SIGKILL" in _words_at_the_end(child)


def test_what_a_child_leaves_behind_ends_with_it(start: Start) -> None:
    child = start(
        LISTEN
        + "    pass\n"
        + f"p = subprocess.Popen({SLEEPER}, stdout=subprocess.DEVNULL)\n"
        + "say(type='failed', trial='', reason=str(p.pid))\n"
    )
    _next(child)
    child.close(PATIENCE)
    (left,) = _pids(child, 1)
    assert _gone(left)


def test_a_program_that_does_not_exist_is_an_error_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-program"):
        Child(("no-such-program",), tmp_path / "log", {})


def test_the_log_of_a_child_that_floods_it_is_cut_while_it_lives(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "LIMIT_BYTES", 20_000_000)
    monkeypatch.setattr(under_test, "LOG_SECONDS", 0.01)
    child = start(
        SAY + "sys.stderr.write('the first line\\n')\n"
        "for i in range(60):\n    sys.stderr.write(('x' * 99 + '\\n') * 10000)\n    time.sleep(0.01)\n"
        "sys.stderr.write('the last line\\n')\nsys.stderr.flush()\nsay(type='heartbeat')\nsys.stdin.read()\n"
    )
    assert isinstance(_next(child), Heartbeat)
    child.kill()
    log = child.log.read_text()
    assert len(log) < 40_000_000
    assert log.startswith("the first line")
    assert log.endswith("the last line\n")
    assert "bytes are missing here" in log
