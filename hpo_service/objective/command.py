"""Running a command line as a trial, in any language: results are JSON lines on its standard output."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO

from hpo_service.domain.study.sections.objective import command_line
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.errors import AttemptError, TrialError
from hpo_service.objective.context import TrialContext
from hpo_service.objective.offspring import end_offspring, kill, offspring
from hpo_service.wire.child import TrialLink
from hpo_service.wire.exit_status import how_it_ended

POLL_SECONDS = 0.2
"""How often orders to stop are looked at while the command is silent."""
LINES_AHEAD = 1000
"""Lines that are read before they are looked at; a command that prints faster has to wait."""
LINE_CHARS = 1 << 20
"""A longer line is no message: it goes to the log in pieces."""
TERM_SECONDS = 30.0
"""From SIGTERM to SIGKILL when a command is told to stop, so that it can save a checkpoint."""


def run_command(template: str, link: TrialLink) -> Outcome:
    """Run the command of a trial and read what it prints.

    A line `{"step": 3, "value": 1.2}` (also `fraction`, `metrics`) is a report; `{"result": 1.1}` is the final
    value; any other line goes to the worker's log. Placeholders: every parameter, `{seed}`, `{checkpoint}`.

    Raises:
        TrialError: a placeholder has no value, there is no such command, it prints no result or one that cannot be
            read.
        AttemptError: the command failed, or cannot be started just now.
    """
    context = TrialContext(link)
    own = {"seed": context.seed, "checkpoint": str(context.checkpoint_folder)}
    before = offspring()
    process = _start(fill(template, {**context.parameters, **own}))
    try:
        link.started()
        return _follow(process, context, link)
    finally:
        with link.busy("ending the command"):
            _end(process)
            end_offspring(but_not=before)


def fill(template: str, values: dict[str, object]) -> list[str]:
    """Return the arguments of a command line with the values put in.

    Raises:
        TrialError: a placeholder has no value, or the line cannot be split.
    """
    try:
        parts = command_line(template, values)
    except KeyError as error:
        known = ", ".join(sorted(values))
        raise TrialError(f"the objective's command names {{{error.args[0]}}}, known are: {known}") from error
    except ValueError as error:
        raise TrialError(f"the objective's command cannot be read: {error}") from error
    if not parts:
        raise TrialError("the objective's command is empty")
    return parts


def _start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start the command in a process group of its own, but in this process's session, by which it can be found."""
    try:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            process_group=0,
        )
    except (FileNotFoundError, PermissionError, ValueError) as error:
        raise TrialError(f"the objective's command cannot be started: {error}") from error
    except OSError as error:
        raise AttemptError(f"the objective's command cannot be started: {error}") from error


def _follow(process: subprocess.Popen[str], context: TrialContext, link: TrialLink) -> Outcome:
    result: float | None = None
    for line in _lines(process):
        if link.stop() is not None:
            return link.stopped()
        if line is not None:
            link.touch()
            final = _hear(line, context)
            result = final if final is not None else result
    if link.stop() is not None:
        return link.stopped()
    code = process.wait()
    if code != 0:
        raise AttemptError(f"the objective's command {how_it_ended(code)}: see the worker's log")
    if result is None:
        raise TrialError('the objective\'s command printed no result: its last line must be {"result": NUMBER}')
    return Outcome(kind=OutcomeKind.COMPLETE, reason="the command printed its result", value=result)


def _lines(process: subprocess.Popen[str]) -> Iterator[str | None]:
    """Yield each line the command prints, and None at each moment of silence, until it has ended."""
    lines: queue.Queue[str | None] = queue.Queue(LINES_AHEAD)
    unheard = threading.Event()
    if process.stdout is not None:
        threading.Thread(target=_read, args=(process.stdout, lines, unheard), daemon=True).start()
    try:
        yield from _until_ended(process, lines)
    finally:
        unheard.set()


def _until_ended(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> Iterator[str | None]:
    printing = True
    while printing:
        ended = process.poll() is not None
        try:
            line = lines.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if ended:  # something it has left behind holds its output open
                return
            yield None
            continue
        printing = line is not None
        if line is not None:
            yield line
    while process.poll() is None:
        yield None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)


def _read(stream: IO[str], lines: queue.Queue[str | None], unheard: threading.Event) -> None:
    """Read what the command prints, no faster than it is heard; once nobody listens it goes to the log.

    So a command that was told to stop is not held up by what it prints while it saves.
    """
    whole = True
    with stream:
        while piece := stream.readline(LINE_CHARS):
            began, whole = whole, piece.endswith("\n") or len(piece) < LINE_CHARS
            if not (began and whole and _put(lines, piece, unheard)):
                sys.stderr.write(piece)
    _put(lines, None, unheard)


def _put(lines: queue.Queue[str | None], line: str | None, unheard: threading.Event) -> bool:
    while not unheard.is_set():
        with contextlib.suppress(queue.Full):
            lines.put(line, timeout=POLL_SECONDS)
            return True
    return False


def _hear(line: str, context: TrialContext) -> float | None:
    """Take one line: report it, return a final result, or pass it on to the log."""
    message: object = None
    with contextlib.suppress(ValueError, RecursionError):
        message = json.loads(line)
    if not isinstance(message, dict) or not ("result" in message or {"step", "value"} <= message.keys()):
        sys.stderr.write(line)
        return None
    try:
        if "result" in message:
            return float(message["result"])
        fraction = message.get("fraction")
        context.report(
            int(message["step"]),
            float(message["value"]),
            fraction=None if fraction is None else float(fraction),
            metrics={str(k): float(v) for k, v in (message.get("metrics") or {}).items()},
        )
    except (TypeError, ValueError, AttributeError, OverflowError, TrialError) as error:
        raise TrialError(f"the objective's command printed a line that cannot be read: {line.strip()!r}") from error
    return None


def _end(process: subprocess.Popen[str]) -> None:
    """End the command and all that it started: first it is asked to, then what is left is killed."""
    started = offspring(process.pid)
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TERM_SECONDS)
    _signal(process, signal.SIGKILL)
    process.wait()
    kill(started)


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
