"""The application: every row of the table becomes a route, with optuna-dashboard beside them, behind one door."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from hpo_service.bootstrap import Service
from hpo_service.web import openapi
from hpo_service.web.api.events import Streams
from hpo_service.web.authentication import guarded
from hpo_service.web.background import Background
from hpo_service.web.dashboard.notes import DashboardNotes
from hpo_service.web.dashboard.route import Dashboard
from hpo_service.web.door import MAX_BODY_BYTES, Door
from hpo_service.web.metrics import Metrics
from hpo_service.web.options import ServeOptions
from hpo_service.web.problems import answer_problems
from hpo_service.web.routes import ROUTES, Route
from hpo_service.web.state import WebState
from hpo_service.web.throttle import Throttle

ABOUT = "Studies, trials, workers and what was found, as the command line knows them."


def build_app(
    service: Service,
    options: ServeOptions,
    *,
    throttle: Throttle | None = None,
    background: bool = True,
    streams: Streams | None = None,
) -> Door:
    """Return the application, an ASGI one; nothing runs before its lifespan begins.

    Args:
        service: what it asks.
        options: how the server is started.
        throttle: counts wrong secrets.
        background: whether it takes trials back from silent workers and moves studies on.
        streams: of events that are open; whoever ends the server has them end first.
    """
    state = WebState(service, options, throttle or Throttle())
    app = _application(state, background=background)
    app.state.streams = streams or Streams()
    for route in ROUTES:
        _add(app, route)
    app.router.routes.append(Dashboard(state))
    answer_problems(app)
    openapi.describe(app, options.base_path, {(route.method, route.path) for route in ROUTES if route.least is None})
    return Door(app, base_path=options.base_path, secure=options.secure and not options.loopback)


def _application(state: WebState, *, background: bool) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        notes = DashboardNotes(state.service, state.findings, state.options.base_path)
        rounds = Background(state.service, more=[notes.round])
        if background:
            rounds.start()
        yield
        rounds.stop()
        state.service.db.dispose()

    app = FastAPI(
        title="hpo-service",
        version=importlib.metadata.version("hpo-service"),
        description=ABOUT,
        lifespan=lifespan,
        # theirs load scripts from elsewhere, and ask nobody who is asking
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        max_body_size=MAX_BODY_BYTES,
    )
    app.state.web = state
    app.state.metrics = Metrics(state.service.counting.all)
    return app


def _add(app: FastAPI, route: Route) -> None:
    app.router.add_api_route(
        route.path,
        route.handler,
        methods=[route.method],
        status_code=route.status,
        responses=openapi.answers_of(route.answer, route.status),
        response_model=None,
        include_in_schema=route.shown,
        operation_id=route.handler.__name__,
        openapi_extra={"requestBody": route.body} if route.body else None,
        route_class_override=guarded(route.least),
    )
