"""What is answered where something is wrong: problem documents (RFC 9457) made of the typed errors."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from hpo_service.errors import (
    ConflictError,
    DatabaseUnavailableError,
    HpoServiceError,
    NotFoundError,
    SchemaError,
    StudyFailedError,
    StudyFileError,
    UnreadableStudyError,
    UsageError,
)
from hpo_service.web.pages.page import page

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
"""When to try again while the database is away."""

STATUS: dict[type[HpoServiceError], int] = {
    StudyFileError: 422,
    UsageError: 422,
    NotFoundError: 404,
    ConflictError: 409,
    StudyFailedError: 409,
    UnreadableStudyError: 409,
    DatabaseUnavailableError: 503,
    SchemaError: 503,
    HpoServiceError: 400,
}
"""The status of each kind of error; of the first of its bases that stands here."""

MOST_COMPLAINTS = 10
"""Wrong fields that an answer lists."""


def problem(
    status: int, detail: str, *, kind: str = "", headers: dict[str, str] | None = None, **more: Any
) -> Response:
    """Return a problem document.

    Args:
        status: of the answer.
        detail: one sentence for people, with the remedy.
        kind: machine's name of the problem; by default the status' own.
        headers: of the answer.
        more: members of the document beside the usual.
    """
    title = HTTPStatus(status).phrase
    name = kind or title.lower().replace(" ", "-").replace("'", "")
    document = {"type": f"urn:hpo-service:problem:{name}", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(document, status, headers, media_type=MEDIA_TYPE)


def _answer(request: Request, status: int, detail: str, **more: Any) -> Response:
    """Answer programs with a problem document, and who reads pages with a page."""
    document = problem(status, detail, **more)
    if not _shows_pages(request):
        return document
    shown = page(request, "problem.html", status, title=HTTPStatus(status).phrase, detail=detail)
    shown.headers.update(more.get("headers") or {})
    return shown


def answer_problems(app: FastAPI) -> None:
    """Have the application answer every error with a problem document."""
    app.add_exception_handler(HpoServiceError, _expected)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(Exception, _unexpected)


def status_of(error: HpoServiceError) -> int:
    """Return the status that an expected error is answered with."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


async def _expected(request: Request, error: Exception) -> Response:
    assert isinstance(error, HpoServiceError)
    status = status_of(error)
    more: dict[str, Any] = {}
    if isinstance(error, StudyFileError):
        more = {"line": error.line, "key": error.key}
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    kind = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()
    return _answer(request, status, " ".join(str(error).split()), kind=kind, headers=headers, **more)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.UNAUTHORIZED and request.method == "GET" and _shows_pages(request):
        base = str(request.scope["root_path"])
        asked = request.url.path.removeprefix(base) + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{base}/login?next={quote(asked, safe='')}", 303)
    headers = dict(error.headers) if error.headers else None
    return _answer(request, error.status_code, str(error.detail), headers=headers)


def _shows_pages(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    complaints = [
        {"where": ".".join(map(str, found["loc"])), "what": found["msg"]} for found in error.errors()[:MOST_COMPLAINTS]
    ]
    first = f"{complaints[0]['where']}: {complaints[0]['what']}" if complaints else "it cannot be read"
    return _answer(request, 422, f"the request is malformed: {first}", kind="malformed", errors=complaints)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(request, 500, "the server made a mistake; its log says more")
