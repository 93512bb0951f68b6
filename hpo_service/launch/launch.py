"""One launch as its launcher sees it: whose workers, with what, under which name; and a job of it."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from hpo_service.errors import NotFoundError
from hpo_service.launch.inherited import CREDENTIALS, OWN_COMMAND, PASSED_ON, set_here
from hpo_service.launch.options import LaunchOptions
from hpo_service.settings import Settings
from hpo_service.wire.attempt_folder import log_folder

LAUNCH = "HPO_SERVICE_LAUNCH"
"""Variable in which a worker finds the launch that it is of."""
TAIL_BYTES = 1 << 16
"""How much of a log is read for its last lines."""

Options_co = TypeVar("Options_co", bound=LaunchOptions, covariant=True)


@dataclass(frozen=True)
class Job:
    """Something that a scheduler runs or has in its queue: one worker, or several.

    Attributes:
        id: what the scheduler calls it.
        state: in the scheduler's words, in small letters.
        workers: how many workers it is.
        place: machine it runs on; empty while it runs on none.
        detail: what the scheduler says besides, such as why it waits.
    """

    id: str
    state: str
    workers: int = 1
    place: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Launch(Generic[Options_co]):
    """Workers of one study that are launched together.

    Attributes:
        id: a name that no other launch has; what is submitted bears it, so that it is found again.
        study: what they serve.
        options: what was asked for.
        settings: the database and the folders they use.
        gpus_per_trial: GPUs that each worker needs.
        jobs: what was submitted before.
    """

    id: str
    study: str
    options: Options_co
    settings: Settings = field(repr=False)
    gpus_per_trial: int = 1
    jobs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What a scheduler calls it."""
        return f"hpo-{self.id}"

    @property
    def worker(self) -> list[str]:
        """A worker's command line behind the program's name; it holds no secret."""
        return ["worker", "--study", self.study, "--until-finished", *self.options.worker_arguments]

    @property
    def own_command(self) -> list[str]:
        """A worker's whole command line, where this installation lies in the same folder."""
        return [*OWN_COMMAND, *self.worker]

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a worker that everybody may read."""
        return {LAUNCH: self.id, "HPO_SERVICE_OUTPUT": str(self.settings.output), **set_here(PASSED_ON)}

    @property
    def secrets(self) -> dict[str, str]:
        """Variables of a worker that nobody else may read."""
        return {"HPO_SERVICE_STORAGE": self.settings.storage, **set_here(CREDENTIALS)}

    @property
    def logs(self) -> Path:
        """Folder of the workers' logs; names begin with `log_prefix`."""
        return log_folder(self.settings.output)

    @property
    def log_prefix(self) -> str:
        """How the names of its logs begin."""
        return f"launch-{self.id}"

    @property
    def secret_file(self) -> Path:
        """Where `keep_secrets` writes."""
        return self.settings.output / "launches" / f"{self.id}.env"

    def keep_secrets(self) -> Path:
        """Write the secrets into a file that a shell can read in, and only its owner."""
        file = self.secret_file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.secrets.items()]
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w") as stream:
            stream.writelines(lines)
        return file

    def forget_secrets(self) -> None:
        """Remove that file."""
        with contextlib.suppress(OSError):
            self.secret_file.unlink(missing_ok=True)

    def tails(self, lines: int) -> Iterator[str]:
        """The last lines of each of its logs, under the log's name.

        Raises:
            NotFoundError: there is no log of it here.
        """
        found = sorted(self.logs.glob(f"{self.log_prefix}-*.log"))
        if not found:
            raise NotFoundError(
                f"launch {self.id} has no logs in {self.logs} yet: workers write them when they start; "
                "where that folder is another machine's own, look there"
            )
        for log in found:
            yield f"==> {log} <=="
            yield from tail(log, lines)


def tail(log: Path, lines: int) -> list[str]:
    """Return the last lines of a log."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return stream.read().decode("utf-8", "replace").splitlines()[-lines:] if lines else []
