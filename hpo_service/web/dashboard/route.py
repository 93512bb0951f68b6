"""optuna-dashboard behind the door: it knows no users, so that nothing reaches it that was not admitted here."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from a2wsgi import WSGIMiddleware
from bottle import HTTPError
from fastapi import HTTPException, Request
from starlette.datastructures import MutableHeaders
from starlette.routing import BaseRoute, Match
from starlette.types import Message, Receive, Scope, Send

from hpo_service.domain.access import Role
from hpo_service.web.api.results import REPORT_POLICY
from hpo_service.web.authentication import admit, require_role
from hpo_service.web.dashboard.artifacts import DashboardArtifacts
from hpo_service.web.state import WebState

if TYPE_CHECKING:
    from bottle import Bottle

PREFIXES = ("dashboard", "api", "static", "csv", "artifacts")
"""First parts of its paths. They are absolute in its scripts: it cannot live anywhere else."""
READING = frozenset({"GET", "HEAD"})
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
NOT_FOUND = ("Record does not exist.",)
"""What a KeyError of Optuna 5.0's tables says of a study or trial that is not there."""
LARGEST_ID = 2**31 - 1
"""Of a study or trial in Optuna's tables."""

POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-eval'",  # its parallel-coordinates plot compiles code
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
"""What its page may load: files of this server, as our own pages; its plots need more freedom in style and script."""


def least_role(method: str, path: str, *, writes: bool) -> Role:
    """Return who may send a request of this method to a path.

    Raises:
        HTTPException: 405 nobody may.
    """
    if method in READING:
        return Role.VIEWER
    if path.startswith("/api/artifacts"):
        # what somebody uploads would be served from this host as its own
        raise HTTPException(405, "artifacts are what workers keep: none is uploaded or deleted here", {"Allow": "GET"})
    if method in WRITING and writes:
        return Role.OPERATOR
    raise HTTPException(
        405,
        "optuna-dashboard only shows here: change studies by this service's own commands",
        {"Allow": ", ".join(sorted(READING | WRITING if writes else READING))},
    )


class Dashboard(BaseRoute):
    """All routes of optuna-dashboard, in the place of one of ours."""

    def __init__(self, state: WebState) -> None:
        self._options = state.options
        self.bottle = _bottle(state)
        # its types are stricter than those of Starlette, for the same messages
        self._app: Any = WSGIMiddleware(self.bottle)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Take what begins with one of its prefixes."""
        mine = scope["type"] == "http" and self._path(scope).split("/")[1] in PREFIXES
        return (Match.FULL if mine else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a request and pass it on."""
        request = Request(scope, receive)
        # who is asking comes first: to strangers it is all the same what a method would do
        await admit(request, Role.VIEWER, csrf=False)
        path = self._path(scope)
        writes = self._options.allow_dashboard_writes
        require_role(request.state.caller, least_role(request.method, path, writes=writes))

        if any(part.isascii() and part.isdigit() and int(part) > LARGEST_ID for part in path.split("/")):
            raise HTTPException(404, "there is no such study or trial")  # databases refuse such numbers as no integers
        passed = {**scope, "path": path, "root_path": "", "headers": _headers(scope)}

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = REPORT_POLICY if path.startswith("/artifacts/") else POLICY
                if path.startswith("/static/"):
                    headers["Cache-Control"] = "private, max-age=3600"  # megabytes of scripts
            await send(message)

        await self._app(passed, receive, with_policy)

    def _path(self, scope: Scope) -> str:
        """The path without the base path, which a proxy may have left in it."""
        path, base = str(scope["path"]), self._options.base_path
        return path[len(base) :] if base and path.startswith(f"{base}/") else path


def _headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What it is told: not the secrets of who is asking; and what it takes for granted that every browser sends."""
    kept = [(name, value) for name, value in scope["headers"] if name not in (b"authorization", b"cookie")]
    return kept if any(name == b"accept-encoding" for name, _ in kept) else [*kept, (b"accept-encoding", b"identity")]


def _bottle(state: WebState) -> Bottle:
    from optuna_dashboard import wsgi

    storage = state.service.projection(writes=state.options.allow_dashboard_writes)
    app: Any = wsgi(storage, artifact_store=DashboardArtifacts(state.service))
    app.install(_missing_is_404)
    return app


def _missing_is_404(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A plugin of bottle: its routes of artifacts take it for granted that the study and the trial are there."""

    @wraps(callback)
    def answer(*arguments: Any, **named: Any) -> Any:
        try:
            return callback(*arguments, **named)
        except KeyError as error:
            if error.args != NOT_FOUND:
                raise
            raise HTTPError(404, "there is no such study or trial") from error

    return answer
