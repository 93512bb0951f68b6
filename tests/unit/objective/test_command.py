"""Running a command line as a trial."""

from __future__ import annotations

import errno
import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.trial.decision import Action
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import AttemptError, TrialError
from hpo_service.objective import command as under_test
from hpo_service.objective.command import fill, run_command
from hpo_service.wire.child import Stopped, TrialLink
from tests.trials import stop

Link = Callable[..., TrialLink]
Script = Callable[[str], str]
PATIENCE = 20.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(under_test, "TERM_SECONDS", 5.0)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Writes a script and returns the command line that runs it."""

    def script(text: str) -> str:
        path = tmp_path / "script.py"
        path.write_text(f"import json, os, signal, subprocess, sys, time\n{text}")
        return f"{shlex.quote(sys.executable)} -I -S {shlex.quote(str(path))}"

    return script


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


# the command line


def test_placeholders_are_filled_in() -> None:
    values = {"lr": 0.001, "optimizer": "adam", "seed": 7}
    assert fill("train.py --lr {lr} --opt={optimizer} --seed {seed:04d} {{x}}", values) == [
        "train.py",
        "--lr",
        "0.001",
        "--opt=adam",
        "--seed",
        "0007",
        "{x}",
    ]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_value_is_one_argument_whatever_is_in_it(value: str) -> None:
    assert fill("train.py --name {name} 'a b'", {"name": value}) == ["train.py", "--name", value, "a b"]


def test_values_reach_no_shell(link: Link, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = f"$(touch {tmp_path}/evil); `id` && exit 1 | 'x"
    line = script("print(json.dumps({'result': float(sys.argv[1] == os.environ['EVIL'] and len(sys.argv) == 2)}))")
    monkeypatch.setenv("EVIL", evil)
    outcome = run_command(line + " {name}", link(parameters={"name": evil}))
    assert outcome.value == 1.0
    assert not (tmp_path / "evil").exists()


def test_a_placeholder_without_a_value_is_named_with_those_there_are() -> None:
    with pytest.raises(TrialError, match=r"names \{rank\}, known are: lr, seed") as caught:
        fill("train.py {rank}", {"lr": 0.1, "seed": 1})
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "template", ["train.py 'unclosed", "train.py {", "train.py {}", "train.py {lr:nonsense}", "{lr[0]}", "{lr.no}"]
)
def test_a_line_that_cannot_be_read_is_refused(template: str) -> None:
    with pytest.raises(TrialError, match="cannot be read") as caught:
        fill(template, {"lr": 0.1})
    assert not caught.value.retryable


@pytest.mark.parametrize("template", ["", "  "])
def test_an_empty_line_is_refused(template: str) -> None:
    with pytest.raises(TrialError, match="is empty"):
        fill(template, {})


def test_seed_and_checkpoint_folder_are_placeholders_too(link: Link, script: Script) -> None:
    line = script("print(json.dumps({'result': int(sys.argv[1]) + os.path.isdir(sys.argv[2]) / 2}))")
    assert run_command(line + " {seed} {checkpoint}", link()).value == 7.5


@pytest.mark.parametrize(
    "error, retryable",
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "no-such-program"), False),
        (PermissionError(errno.EACCES, "Permission denied", "train.py"), False),
        (ValueError("embedded null byte"), False),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), True),
    ],
)
def test_a_command_that_cannot_be_started_is_tried_again_only_where_that_may_help(
    link: Link, monkeypatch: pytest.MonkeyPatch, error: Exception, retryable: bool
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(TrialError, match="cannot be started") as caught:
        run_command("train.py", link())
    assert caught.value.retryable is retryable


def test_a_program_that_does_not_exist_is_named(link: Link, talk: Any) -> None:
    with pytest.raises(TrialError, match="no-such-program"):
        run_command("no-such-program --lr {lr}", link())
    assert talk.started == 0


# what it prints


def test_reports_and_the_result_are_read(link: Link, talk: Any, script: Script) -> None:
    line = script(
        "print(json.dumps({'step': 1, 'value': 2.5}))\n"
        "print(json.dumps({'step': 2, 'value': 1.5, 'fraction': 0.9, 'metrics': {'accuracy': 0.7}}))\n"
        "print(json.dumps({'result': 1.25}))"
    )
    outcome = run_command(line, link(evaluations_per_epoch=4))
    assert (outcome.kind, outcome.value) == (OutcomeKind.COMPLETE, 1.25)
    first, second = talk.reports
    assert (first.step, first.value, first.fraction, first.metrics) == (1, 2.5, 0.25, {})
    assert (second.step, second.fraction, second.metrics) == (2, 0.9, {"accuracy": 0.7})
    assert talk.started == 1


def test_other_lines_go_to_the_log(link: Link, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    line = script(
        "print('epoch 1')\nprint('{\"loss\": 3}')\nprint('[1]')\nprint('3')\nprint('9' * 5000)\nprint('[' * 100000)\n"
        "sys.stdout.flush(); sys.stdout.buffer.write(b'\\xff\\xfe\\n'); sys.stdout.flush()\n"
        "print(json.dumps({'result': 1}))"
    )
    assert run_command(line, link()).value == 1.0
    logged = capsys.readouterr().err
    assert logged.startswith('epoch 1\n{"loss": 3}\n[1]\n3\n999')
    assert logged.endswith("\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\n")


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_result_that_is_not_finite_is_passed_on(link: Link, script: Script, value: str) -> None:
    outcome = run_command(script(f"print('{{\"result\": {value}}}')"), link())
    assert outcome.value is not None
    assert not math.isfinite(outcome.value)


@pytest.mark.parametrize(
    "message",
    [
        {"result": None},
        {"result": "good"},
        {"result": [1]},
        {"step": "first", "value": 1},
        {"step": -1, "value": 1},
        {"step": 1, "value": None},
        {"step": 1, "value": 1, "metrics": [1]},
        {"step": 1, "value": 1, "metrics": {"a": None}},
        {"step": 1, "value": 1, "fraction": "half"},
        {"step": float("inf"), "value": 1},
    ],
)
def test_a_message_that_cannot_be_read_is_shown(link: Link, script: Script, message: Any) -> None:
    text = json.dumps(message)
    with pytest.raises(TrialError, match="cannot be read") as caught:
        run_command(script(f"print({text!r}, flush=True); time.sleep(600)"), link())
    assert text in str(caught.value)
    assert not caught.value.retryable


def test_each_line_is_a_sign_of_life(link: Link, talk: Any, script: Script) -> None:
    run_command(script("print('a')\nprint('b')\nprint(json.dumps({'result': 1}))"), link())
    assert talk.touches.count(None) >= 3


def test_no_result_is_an_error_that_another_attempt_would_meet_too(link: Link, script: Script) -> None:
    with pytest.raises(TrialError, match="printed no result") as caught:
        run_command(script("print('done')"), link())
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "text, words",
    [("sys.exit(3)", "ended with status 3"), ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL")],
)
def test_a_command_that_fails_may_be_tried_again(link: Link, script: Script, text: str, words: str) -> None:
    with pytest.raises(AttemptError, match=words) as caught:
        run_command(script(f"print(json.dumps({{'result': 1}}), flush=True)\n{text}"), link())
    assert caught.value.retryable


def test_a_command_that_closes_its_output_is_waited_for(link: Link, script: Script) -> None:
    line = script("print(json.dumps({'result': 1}), flush=True)\nos.close(1)\ntime.sleep(0.15)\nos._exit(4)")
    with pytest.raises(AttemptError, match="status 4"):
        run_command(line, link())


def test_a_command_that_prints_faster_than_it_is_heard_waits_and_nothing_is_lost(
    link: Link, talk: Any, script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(under_test, "LINES_AHEAD", 3)
    line = script(
        "for i in range(1, 500):\n    print('x' * 100)\n    print(json.dumps({'step': i, 'value': i}))\n"
        "print(json.dumps({'result': 1}))"
    )
    assert run_command(line, link()).value == 1.0
    assert [report.step for report in talk.reports] == list(range(1, 500))
    assert capsys.readouterr().err == ("x" * 100 + "\n") * 499


def test_a_line_without_an_end_is_passed_on_in_pieces_and_no_piece_is_a_message(
    link: Link, talk: Any, script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(under_test, "LINE_CHARS", 64)
    message = json.dumps({"step": 1, "value": 1.0})
    line = script(f"print('y' * 64 + {message!r}); print('z' * 6400); print(json.dumps({{'result': 1}}))")
    assert run_command(line, link()).value == 1.0
    assert talk.reports == []
    assert capsys.readouterr().err == "y" * 64 + message + "\n" + "z" * 6400 + "\n"


def test_a_command_that_was_told_to_stop_may_print_while_it_saves(
    link: Link, talk: Any, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "LINES_AHEAD", 3)
    talk.orders[1] = stop("release", "because")
    prints = "def save(*_):\n    print('saving ' * 100000, flush=True)\n    open(sys.argv[1], 'w').close()\n"
    line = script(prints + "    os._exit(0)\nsignal.signal(signal.SIGTERM, save)\n" + WAITS)
    assert run_command(f"{line} {tmp_path / 'saved'}", link()).kind is OutcomeKind.RELEASED
    assert (tmp_path / "saved").exists()


# its end


def test_what_a_command_leaves_behind_is_ended_and_does_not_hold_up_the_trial(
    link: Link, script: Script, tmp_path: Path
) -> None:
    line = script(
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))\n"
        "print(json.dumps({'result': 1}))"
    )
    assert run_command(line, link()).value == 1.0
    assert _gone(int((tmp_path / "pid").read_text()))


def test_a_command_stays_in_the_session_of_its_child_by_which_it_can_be_found(link: Link, script: Script) -> None:
    line = script("print(json.dumps({'result': os.getsid(0) * 1e9 + (os.getpgrp() == os.getpid())}))")
    assert run_command(line, link()).value == os.getsid(0) * 1e9 + 1


WAITS = "print(json.dumps({'step': 1, 'value': 1.0}), flush=True)\ntime.sleep(600)"
SAVES = (
    "def save(*_):\n    open(sys.argv[1], 'w').close()\n    sys.exit(0)\nsignal.signal(signal.SIGTERM, save)\n" + WAITS
)


@pytest.mark.parametrize("action, kind", [("prune", OutcomeKind.PRUNED), ("release", OutcomeKind.RELEASED)])
def test_an_order_to_stop_is_a_sigterm_at_which_a_command_can_save(
    link: Link, talk: Any, script: Script, tmp_path: Path, action: Action, kind: OutcomeKind
) -> None:
    talk.orders[1] = stop(action, "because")
    outcome = run_command(f"{script(SAVES)} {tmp_path / 'saved'}", link())
    assert (outcome.kind, outcome.reason) == (kind, "because")
    assert (tmp_path / "saved").exists()
    assert "ending the command" in talk.busy_with


def test_a_command_that_ignores_sigterm_is_killed(
    link: Link, talk: Any, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "TERM_SECONDS", 0.1)
    talk.orders[1] = stop("prune", "because")
    began = time.monotonic()
    outcome = run_command(script("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAITS), link())
    assert outcome.kind is OutcomeKind.PRUNED
    assert time.monotonic() - began < PATIENCE


def test_an_order_reaches_a_silent_command(link: Link, talk: Any, script: Script) -> None:
    given = link()
    talk.on_report = lambda _: talk.order("prune", "stopped by hand")
    outcome = run_command(script(WAITS), given)
    assert (outcome.kind, outcome.reason) == (OutcomeKind.PRUNED, "stopped by hand")


def test_an_order_reaches_a_command_that_closed_its_output(link: Link, talk: Any, script: Script) -> None:
    given = link()
    hear, heard = given._hear, []

    def late(timeout: float | None) -> bool:
        heard.append(timeout)
        if len(heard) == 12:
            talk.order()
        return hear(timeout)

    given._hear = late
    outcome = run_command(script("os.close(1)\ntime.sleep(600)"), given)
    assert outcome.kind is OutcomeKind.CANCELLED


def test_a_command_that_goes_on_reporting_after_the_order_is_stopped(link: Link, talk: Any, script: Script) -> None:
    given = link()
    talk.on_report = lambda report: talk.order() if report.step == 1 else None
    line = script("[print(json.dumps({'step': i, 'value': 1.0}), flush=True) for i in range(1, 1000)]\ntime.sleep(600)")
    try:
        kind = run_command(line, given).kind
    except Stopped:
        kind = given.stopped().kind
    assert kind in (OutcomeKind.PRUNED, OutcomeKind.CANCELLED)
    assert len(talk.reports) <= 2


def test_an_order_that_comes_as_the_command_ends_is_obeyed(link: Link, talk: Any, script: Script) -> None:
    talk.orders[1] = stop("prune", "because")
    line = script("print(json.dumps({'step': 1, 'value': 1.0}), flush=True)")
    assert run_command(line, link()).kind is OutcomeKind.PRUNED


def test_dots_and_brackets_in_a_name_are_part_of_it() -> None:
    assert fill("t {optim.lr} {layers[0]} '{a b}'", {"optim.lr": 0.5, "layers[0]": 3, "a b": "x y"}) == [
        "t",
        "0.5",
        "3",
        "x y",
    ]


def test_a_name_with_a_dot_is_a_part_of_a_value_only_where_no_parameter_has_it() -> None:
    assert fill("t {lr.real}", {"lr": 0.5}) == ["t", "0.5"]
    assert fill("t {lr.real}", {"lr": 0.5, "lr.real": 7}) == ["t", "7"]
