"""What a client needs of whoever it asks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """Which trials are wanted; what is None or empty excludes none. `curves`: with the curve of each."""

    stage: str | None = None
    states: Collection[str] = ()
    worker: str | None = None
    curves: bool = False


@dataclass(frozen=True)
class Place:
    """A trial: its study, its stage and its number within it."""

    study: str
    stage: str
    number: int


class Transport(Protocol):
    """Answers with the documents of `/v1`, and raises the typed errors of the service.

    `text` is a study file; `key` tells a request that is sent again from a new one.
    """

    @property
    def about(self) -> str:
        """Whom it asks, without a secret."""

    def create(self, text: str, key: str) -> Document:
        """Create a study."""

    def validate(self, text: str) -> Document:
        """Check a study file."""

    def studies(self) -> list[Document]:
        """List all studies."""

    def study(self, name: str) -> Document:
        """Show one."""

    def steer(self, name: str, verb: str, reason: str) -> Document:
        """Pause, resume, drain or cancel one."""

    def delete(self, name: str) -> None:
        """Delete one."""

    def trials(self, name: str, wanted: Wanted, cursor: str, limit: int) -> Document:
        """List a page of a study's trials, from a cursor on."""

    def trial(self, place: Place) -> Document:
        """Show a trial."""

    def stop(self, place: Place, reason: str) -> Document:
        """End one."""

    def retry(self, place: Place, key: str) -> Document:
        """Queue one again."""

    def workers(self) -> list[Document]:
        """List workers."""

    def drain_worker(self, id: str, reason: str) -> Document:
        """Have a worker leave."""

    def events(
        self, study: str | None, place: Place | None, worker: str | None, after: int, last: int
    ) -> list[Document]:
        """List events: of a study, a trial, a worker, or all."""

    def follow(self, study: str | None, after: int | None) -> Iterator[Document]:
        """Follow events, from an id or from now on; an event may come twice."""

    def verdict(self, name: str) -> Document:
        """Say what a study found."""

    def report(self, name: str) -> str:
        """Return its report, HTML."""

    def best(self, name: str) -> str:
        """Return the recommended configuration, YAML."""

    def export(self, name: str, kind: str, folder: Path) -> list[Path]:
        """Write its tables into a folder."""

    def close(self) -> None:
        """Let go of connections."""
