"""What starts workers and watches over them, wherever they run: a protocol, and a table of those that follow it."""

from __future__ import annotations

import signal
from typing import Protocol, Self

from hpo_service.domain.study.spec import StudySpec
from hpo_service.launch.local import LocalWorkers
from hpo_service.settings import Settings


class Launcher(Protocol):
    """The workers of one study in one place, from the plan to the end of the last.

    Workers pull their trials from the database by themselves: a launcher starts them, looks after them and passes
    orders on, and knows nothing of trials. Whatever becomes of a worker, no trial is lost.
    """

    @classmethod
    def plan(cls, spec: StudySpec, settings: Settings, workers: int | None) -> Self:
        """Decide how many workers run and where; start none.

        Args:
            spec: the study they work on.
            settings: the database and the folders they use.
            workers: a number asked for; None leaves it to the launcher.

        Raises:
            HpoServiceError: its trials do not fit there.
        """

    def start(self) -> None:
        """Start every worker."""

    def watch(self) -> list[str]:
        """Replace workers that died; return a line for each that did, for people. Called about twice a second.

        The first time there may be lines about where workers were put.
        """

    @property
    def alive(self) -> int:
        """Workers that are running, or about to be started again."""

    def signal(self, number: signal.Signals) -> None:
        """Pass SIGTERM on: the first has each worker save and leave, the second end at once. Nobody is replaced after.

        Fit for a signal handler.
        """

    def wait(self, seconds: float) -> bool:
        """Wait for all workers to end, and end those that have not by then; return whether all left by themselves."""

    @property
    def logs(self) -> str:
        """Where a person finds what the workers wrote: a folder, or how to ask for it."""


LAUNCHERS: dict[str, type[Launcher]] = {"local": LocalWorkers}
"""By name. A new one is a file beside this one and a row here."""
