"""Keeping a launch from this process: `launch keep`, and `launch LAUNCHER` where it stays."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from hpo_service.cli.run import INTERRUPTED, Interrupts

if TYPE_CHECKING:
    from hpo_service.bootstrap import Service


def keep_here(service: Service, id: str) -> None:
    """Keep a launch until its study needs no more workers, and say what happens; Ctrl-C ends it.

    Raises:
        ServedStudyFailedError: the study failed.
        HpoServiceError: no worker is left, and the study has not ended.
    """
    keeper = service.keeper(id, _note)
    with Interrupts(keeper.interrupt):
        reason = keeper.keep()
    _note(f"launch {id} is over: {reason}")
    if keeper.interrupted:
        raise typer.Exit(INTERRUPTED)
    service.checks.require_success(service.launches.get(id).study)


def _note(line: str) -> None:
    typer.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")
