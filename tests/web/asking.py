"""Asking an application as it is asked over the wire: no client between that would tidy a path up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message


@cache
def _loop() -> asyncio.Runner:
    """One event loop for all: a new one with new threads for every request would take most of the time."""
    return asyncio.Runner()


@dataclass
class Answer:
    """What was answered."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cookies: list[str] = field(default_factory=list)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Asker:
    """Sends requests to an application, each with these headers and from this address."""

    app: ASGIApp
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = "10.0.0.1"
    scheme: str = "http"

    def by(self, secret: str, **more: str) -> Asker:
        """The same with an access token."""
        return self.having(Authorization=f"Bearer {secret}", **more)

    def having(self, **headers: str) -> Asker:
        """The same with more headers; underscores stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Asker(self.app, {**self.headers, **named}, self.address, self.scheme)

    def __call__(self, method: str, target: str, body: bytes | str | dict[str, Any] = b"", **headers: str) -> Answer:
        """Send one request; `target` goes out as it is written."""
        asker = self.having(**headers)
        if isinstance(body, dict):
            asker, body = asker.having(**{"Content_Type": "application/json", **headers}), json.dumps(body)
        data = body.encode() if isinstance(body, str) else body
        return _loop().run(asker._send(method, target, data))

    async def _send(self, method: str, target: str, body: bytes) -> Answer:
        raw, _, query = target.partition("?")
        given = {"host": "testserver", "content-length": str(len(body)), **self.headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": self.scheme,
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": (self.address, 40000),
            "server": ("testserver", 80),
        }
        answer, sent = Answer(), False

        async def receive() -> Message:
            nonlocal sent
            if sent:
                await asyncio.sleep(3600)
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                answer.cookies = [value.decode() for name, value in message["headers"] if name == b"set-cookie"]
            elif message["type"] == "http.response.body":
                answer.body += message.get("body", b"")

        await self.app(scope, receive, send)
        return answer
