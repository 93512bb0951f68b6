"""The outermost layer: odd requests are turned away before anybody reads them, every answer gets its headers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hpo_service.web.problems import problem

MAX_BODY_BYTES = 64 * 1024
"""The largest body of a request: study files are a few thousand bytes, and reading YAML takes time."""
MAX_PATH_BYTES = 2048

_PATH = re.compile(rb"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_ODD_IN_SEGMENT = re.compile(r"[\x00-\x1f\x7f/\\%]")
_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})
"""Headers by which some servers take one method for another: a door that reads the method must not have them."""

PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""What a page may load: files of this server, nothing inline."""

HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Of every answer that does not say otherwise itself."""
TRANSPORT = "max-age=31536000"
"""For a year a browser that came by TLS comes by nothing else."""


class Door:
    """Wraps the application.

    Args:
        app: the application.
        base_path: what a proxy may have left before every path, or taken off.
        secure: adds what only a server that speaks TLS may promise.
    """

    def __init__(self, app: ASGIApp, *, base_path: str = "", secure: bool = False) -> None:
        self.app = app
        self._base_path = base_path
        self._headers = {**HEADERS, "Strict-Transport-Security": TRANSPORT} if secure else HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = _refusal(scope)
        await (refusal or self.app)({**scope, "root_path": self._base_path}, receive, with_headers)


def _refusal(scope: Scope) -> Response | None:
    """The answer to a request that is not let in."""
    headers = Headers(scope=scope)
    reason = odd_path(scope.get("raw_path") or scope["path"].encode()) or odd_header(headers)
    if reason is not None:
        return problem(400, reason)
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
        return problem(413, f"a request's body has at most {MAX_BODY_BYTES} bytes here: send less")
    return None


def odd_path(raw: bytes) -> str | None:
    """Say what is wrong with a path as it came, None where nothing is.

    A path has one spelling here: what a proxy before us and a router behind us could read differently is refused.
    """
    if len(raw) > MAX_PATH_BYTES or not _PATH.fullmatch(raw):
        return "the path is too long or holds characters that no path of this server has"
    for index, segment in enumerate(parts := raw[1:].split(b"/")):
        try:
            text = unquote_to_bytes(segment).decode("utf-8")
        except UnicodeDecodeError:
            return "the path is not UTF-8"
        if _ODD_IN_SEGMENT.search(text) or text in (".", "..") or b"%2e" in segment.lower():
            return "the path holds dots, slashes or percent signs in disguise: write it plainly"
        if not text and index < len(parts) - 1:
            return "the path holds two slashes in a row: write one"
    return None


def odd_header(names: Iterable[str]) -> str | None:
    """Say which header asks for another method than the request's own, None where none does."""
    asked = _OVERRIDES.intersection(name.lower() for name in names)
    return f"the header {min(asked)} is not taken: send the method itself" if asked else None
