"""One page: a template with what every page knows; or the part of it that refreshes itself."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from hpo_service.domain.access import Role
from hpo_service.presentation.formatting import (
    configuration,
    device_time,
    duration,
    measured,
    moment,
    number,
    short_name,
)
from hpo_service.web.authentication import CSRF_FIELD, Caller
from hpo_service.web.state import state_of

PARTIAL = "HX-Request"
"""Header of a page's own script that asks for the part that refreshes."""


@cache
def environment() -> Environment:
    """Return what renders templates; everything in them is escaped, and a name that nobody gave is an error."""
    made = Environment(
        loader=PackageLoader("hpo_service.web.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = (configuration, device_time, duration, measured, moment, number, short_name)
    made.filters |= {each.__name__: each for each in shown}
    return made


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template.

    Beside `values` it knows: `base`, what every link begins with; `caller`, None before the login; `csrf_field` and
    `csrf_token` for its forms; `may`, which tells whether the caller has a role; `frame`, the layout around it; and
    `place`, the path without the base.
    """
    caller: Caller | None = getattr(request.state, "caller", None)
    base = state_of(request).options.base_path

    def may(role: str) -> bool:
        return caller is not None and caller.role.allows(Role(role))

    shared = {
        "base": base,
        "caller": caller,
        "csrf_field": CSRF_FIELD,
        "csrf_token": caller.csrf_token if caller else "",
        "may": may,
        "frame": "layout.html",
        "place": request.url.path.removeprefix(base),
    }
    return HTMLResponse(environment().get_template(template).render(**shared | values), status)


def live_page(request: Request, template: str, **values: Any) -> HTMLResponse:
    """Render a template of which the block `live` refreshes itself; where its script asks, that block alone."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    frame = "bare.html" if PARTIAL in request.headers else "layout.html"
    return page(request, template, frame=frame, here=here, **values)
