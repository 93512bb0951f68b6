"""The OpenAPI document of `/v1`."""

from __future__ import annotations

from threading import Lock
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from hpo_service.web.api.answers import Problem
from hpo_service.web.authentication import COOKIE
from hpo_service.web.problems import MEDIA_TYPE

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "The request is refused; the problem says why and what to do."},
    "503": {"model": Problem, "description": "The database is away; try again after `Retry-After` seconds."},
}
"""What every route may answer beside what it is for."""
SCHEMES: dict[str, Any] = {
    "token": {"type": "http", "scheme": "bearer", "description": "An access token: `hpo-service token create`."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "A browser's session; unsafe requests carry `X-CSRF-Token`, see `/v1/me`.",
    },
}


def show_openapi(request: Request) -> Response:
    """Return the OpenAPI document."""
    return JSONResponse(request.app.openapi())


def answers_of(answer: Any, status: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of a route's answers.

    Args:
        answer: a model, a media type for what is no JSON, or None for nothing.
        status: of an answer.
    """
    if answer is None:
        return {status: {"description": "Done."}, **PROBLEMS}
    if isinstance(answer, str):
        return {status: {"content": {answer: {"schema": {"type": "string"}}}, "description": "Done."}, **PROBLEMS}
    return {status: {"model": answer, "description": "Done."}, **PROBLEMS}


def describe(app: FastAPI, base_path: str, public: set[tuple[str, str]]) -> None:
    """Have the application's document made when somebody first asks for it: it takes as long as all the rest.

    It says besides what FastAPI cannot know: how one logs in, and that problems are problems.

    Args:
        app: the application, with all its routes.
        base_path: what stands before every path.
        public: methods and paths that are open to strangers.
    """
    plain, lock = app.openapi, Lock()

    def document() -> dict[str, Any]:
        with lock:
            if app.openapi_schema is None:
                _finish(plain(), base_path, public)
            return plain()

    app.openapi = document  # type: ignore[method-assign] # as FastAPI's documentation has it


def _finish(document: dict[str, Any], base_path: str, public: set[tuple[str, str]]) -> None:
    document["servers"] = [{"url": base_path or "/"}]
    document.setdefault("components", {})["securitySchemes"] = SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["security"] = [] if (method.upper(), path) in public else [{name: []} for name in SCHEMES]
            for status in PROBLEMS:
                content = operation["responses"][str(status)]["content"]
                content[MEDIA_TYPE] = content.pop("application/json", content.get(MEDIA_TYPE, {}))
