"""One page: a template with what every page knows."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from hpo_service.domain.access import Role
from hpo_service.web.authentication import CSRF_FIELD, Caller
from hpo_service.web.state import state_of


@cache
def environment() -> Environment:
    """Return what renders templates; everything in them is escaped, and a name that nobody gave is an error."""
    return Environment(
        loader=PackageLoader("hpo_service.web.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template.

    Beside `values` it knows: `base`, what every link begins with; `caller`, None before the login; `csrf_field` and
    `csrf_token` for its forms; `may`, which tells whether the caller has a role.
    """
    caller: Caller | None = getattr(request.state, "caller", None)

    def may(role: str) -> bool:
        return caller is not None and caller.role.allows(Role(role))

    shared = {
        "base": state_of(request).options.base_path,
        "caller": caller,
        "csrf_field": CSRF_FIELD,
        "csrf_token": caller.csrf_token if caller else "",
        "may": may,
    }
    return HTMLResponse(environment().get_template(template).render(**shared, **values), status)
