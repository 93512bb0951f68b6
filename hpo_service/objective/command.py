"""Running a command line as a trial, in any language: results are JSON lines on its standard output."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from typing import IO

from hpo_service.channel import TrialLink
from hpo_service.domain.trial import Outcome, OutcomeKind
from hpo_service.errors import TrialError
from hpo_service.objective.context import TrialContext

POLL_SECONDS = 0.2
"""How often orders to stop are looked at while the command is silent."""
TERM_SECONDS = 30.0
"""From SIGTERM to SIGKILL when a command is told to stop, so that it can save a checkpoint."""


def run_command(template: str, link: TrialLink) -> Outcome:
    """Run the command of a trial and read what it prints.

    A line `{"step": 3, "value": 1.2}` (also `fraction`, `metrics`) is a report; `{"result": 1.1}` is the final
    value; any other line goes to the worker's log. Placeholders: every parameter, `{seed}`, `{checkpoint}`.

    Raises:
        TrialError: a placeholder has no value, the command cannot be started, fails, or prints no result.
    """
    context = TrialContext(link)
    arguments = fill(template, {**context.parameters, "seed": context.seed, "checkpoint": context.checkpoint_folder})
    try:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
    except OSError as error:
        raise TrialError(f"the objective's command cannot be started: {error}") from error
    link.started()
    try:
        return _follow(process, context, link)
    finally:
        _end(process)


def fill(template: str, values: dict[str, object]) -> list[str]:
    """Split a command line and put the values in; a value never becomes more than one argument.

    Raises:
        TrialError: a placeholder has no value, or the line cannot be split.
    """
    try:
        return [part.format_map(values) for part in shlex.split(template)]
    except KeyError as error:
        known = ", ".join(sorted(values))
        raise TrialError(f"the objective's command names {{{error.args[0]}}}, known are: {known}") from error
    except (ValueError, IndexError, AttributeError) as error:
        raise TrialError(f"the objective's command cannot be read: {error}") from error


def _follow(process: subprocess.Popen[str], context: TrialContext, link: TrialLink) -> Outcome:
    lines: queue.Queue[str | None] = queue.Queue()
    if process.stdout is not None:
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    result: float | None = None
    while True:
        if link.stop() is not None:
            return link.stopped()
        try:
            line = lines.get(timeout=POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            break
        link.touch()
        final = _hear(line, context)
        result = final if final is not None else result
    code = process.wait()
    if link.stop() is not None:
        return link.stopped()
    if code != 0:
        raise TrialError(f"the objective's command ended with status {code}: see the worker's log")
    if result is None:
        raise TrialError('the objective\'s command printed no result: its last line must be {"result": NUMBER}')
    return Outcome(kind=OutcomeKind.COMPLETE, reason="the command printed its result", value=result)


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _hear(line: str, context: TrialContext) -> float | None:
    """Take one line: report it, return a final result, or pass it on to the log."""
    message: object = None
    with contextlib.suppress(json.JSONDecodeError):
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
    except (TypeError, ValueError) as error:
        raise TrialError(f"the objective's command printed a line that cannot be read: {line.strip()!r}") from error
    return None


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    for number, patience in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        return
