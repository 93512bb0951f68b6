"""Asks a server over HTTP; problems become the typed errors that they were made of."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import httpx

from hpo_service.client.problems import error_of
from hpo_service.client.transport import Document, Place, Wanted
from hpo_service.errors import NotFoundError, ServerUnavailableError

TIMEOUT_SECONDS = 60.0
SILENCE_SECONDS = 60.0
"""A stream of events that is silent for longer is broken: it says every quarter of a minute that it lives."""
RECONNECT_SECONDS = 1.0


class HttpTransport:
    """A `Transport`; redirects are not followed, so that a token goes nowhere else."""

    def __init__(self, url: str, token: str | None, *, client: httpx.Client | None = None) -> None:
        self._client = client or httpx.Client(timeout=TIMEOUT_SECONDS)
        self._client.base_url = httpx.URL(url.rstrip("/"))
        if token is not None:
            self._client.headers["Authorization"] = f"Bearer {token}"

    @property
    def about(self) -> str:
        """The server."""
        return str(self._client.base_url.copy_with(userinfo=b"")).rstrip("/")

    def create(self, text: str, key: str) -> Document:
        """Create a study."""
        return self._json("POST", "/v1/studies", content=text.encode(), headers={**_YAML, "Idempotency-Key": key})

    def validate(self, text: str) -> Document:
        """Check a study file."""
        return self._json("POST", "/v1/validate", content=text.encode(), headers=_YAML)

    def studies(self) -> list[Document]:
        """List all studies."""
        return self._all("/v1/studies")

    def study(self, name: str) -> Document:
        """Show one."""
        return self._json("GET", _study(name))

    def steer(self, name: str, verb: str, reason: str) -> Document:
        """Pause, resume, drain or cancel one."""
        return self._json("POST", f"{_study(name)}/{verb}", json={"reason": reason or None})

    def delete(self, name: str) -> None:
        """Delete one."""
        self._ask("DELETE", _study(name))

    def trials(self, name: str, wanted: Wanted, cursor: str, limit: int) -> Document:
        """List a page of a study's trials."""
        given = {"stage": wanted.stage, "state": list(wanted.states), "worker": wanted.worker}
        asked = {name: value for name, value in given.items() if value}
        return self._json(
            "GET", f"{_study(name)}/trials", params={**asked, "cursor": cursor, "limit": limit, "curves": wanted.curves}
        )

    def trial(self, place: Place) -> Document:
        """Show a trial."""
        return self._json("GET", _trial(place))

    def stop(self, place: Place, reason: str) -> Document:
        """End one."""
        return self._json("POST", f"{_trial(place)}/stop", json={"reason": reason or None})

    def retry(self, place: Place, key: str) -> Document:
        """Queue one again."""
        return self._json("POST", f"{_trial(place)}/retry", headers={"Idempotency-Key": key})

    def workers(self) -> list[Document]:
        """List workers."""
        return self._all("/v1/workers")

    def drain_worker(self, id: str, reason: str) -> Document:
        """Have a worker leave."""
        return self._json("POST", f"/v1/workers/{_part(id)}/drain", json={"reason": reason or None})

    def events(
        self, study: str | None, place: Place | None, worker: str | None, after: int, last: int
    ) -> list[Document]:
        """List events."""
        bounds: dict[str, Any] = {"after": after, "limit": last}
        if place is not None:
            return self._all(f"{_trial(place)}/events", **bounds)
        about = {name: value for name, value in (("study", study), ("worker", worker)) if value is not None}
        return self._all("/v1/events", **about, **bounds)

    def follow(self, study: str | None, after: int | None) -> Iterator[Document]:
        """Follow events; a stream that breaks or ends is begun again where it was."""
        path = "/v1/events/stream" if study is None else f"{_study(study)}/events/stream"
        params = {} if after is None else {"after": after}
        headers: dict[str, str] = {}
        while True:
            try:
                for event in self._stream(path, params, headers):
                    headers["Last-Event-ID"] = str(max(event["id"], int(headers.get("Last-Event-ID", 0))))
                    yield event
            except ServerUnavailableError:
                if not headers and after is None:
                    raise  # it was never there
            time.sleep(RECONNECT_SECONDS)

    def verdict(self, name: str) -> Document:
        """Say what a study found."""
        return self._json("GET", f"{_study(name)}/verdict")

    def report(self, name: str) -> str:
        """Return its report, HTML."""
        return self._ask("GET", f"{_study(name)}/report.html").text

    def best(self, name: str) -> str:
        """Return the recommended configuration, YAML."""
        return self._ask("GET", f"{_study(name)}/best.yaml").text

    def export(self, name: str, kind: str, folder: Path) -> list[Path]:
        """Write its tables into a folder."""
        answer = self._ask("GET", f"{_study(name)}/exports/{_part(kind)}")
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            files = [entry for entry in archive.namelist() if Path(entry).name == entry]
            return [Path(archive.extract(entry, folder)) for entry in files]

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def _stream(self, path: str, params: dict[str, Any], headers: dict[str, str]) -> Iterator[Document]:
        timeout = httpx.Timeout(TIMEOUT_SECONDS, read=SILENCE_SECONDS)
        try:
            with self._client.stream("GET", path, params=params, headers=headers, timeout=timeout) as answer:
                if answer.is_error:
                    answer.read()
                    raise error_of(answer.status_code, answer.content)
                yield from _events(answer.iter_lines())
        except httpx.HTTPError as error:
            self._away(error)

    def _json(self, method: str, path: str, **given: Any) -> Document:
        document: Document = self._ask(method, path, **given).json()
        return document

    def _all(self, path: str, **params: Any) -> list[Document]:
        documents: list[Document] = self._ask("GET", path, params=params).json()
        return documents

    def _ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **given)
        except httpx.HTTPError as error:
            self._away(error)
        if not answer.is_success:
            raise error_of(answer.status_code, answer.content)
        return answer

    def _away(self, error: httpx.HTTPError) -> NoReturn:
        why = str(error) or type(error).__name__
        raise ServerUnavailableError(f"the server {self.about} is not available ({why}): try again") from error


_YAML = {"Content-Type": "application/yaml"}


def _events(lines: Iterable[str]) -> Iterator[Document]:
    """Read server-sent events: each is one line of data here.

    Raises:
        NotFoundError: what is followed is not there any more.
    """
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            document = json.loads(value)
            if kind == "end":
                raise NotFoundError(document["reason"])
            yield document


def _part(name: str) -> str:
    return quote(name, safe="")


def _study(name: str) -> str:
    return f"/v1/studies/{_part(name)}"


def _trial(place: Place) -> str:
    return f"{_study(place.study)}/trials/{_part(place.stage)}/{place.number}"
