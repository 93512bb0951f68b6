"""Logging in and out: a token, or a link that works once, becomes the session of a browser."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Form, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from hpo_service.service.access import SESSION_SECONDS, Issued
from hpo_service.web.authentication import COOKIE, Caller, address_of, check_same_site
from hpo_service.web.pages.page import page
from hpo_service.web.state import Asked, state_of

MOST_SECRET = 200
_LOCAL = re.compile(r"/(?![/\\])[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")


def login_page(request: Request, service: Asked, code: str = "", next: str = "/") -> Response:
    """Show the form to log in; with a link's `code`, log in."""
    if not code:
        return page(request, "login.html", next=local(next))
    _check_throttle(request)
    session = service.access.follow_link(code[:MOST_SECRET])
    if session is None:
        state_of(request).throttle.wrong(address_of(request))
        reason = "This link was used before or is too old. Log in with an access token, or start the server again."
        return page(request, "login.html", 401, next="/", reason=reason)
    return _logged_in(request, session, "/")


def log_in(
    request: Request,
    service: Asked,
    token: Annotated[str, Form(max_length=MOST_SECRET)],
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Open a session with an access token."""
    check_same_site(request)
    _check_throttle(request)
    session = service.access.open_session(token.strip())
    if session is None:
        state_of(request).throttle.wrong(address_of(request))
        reason = "This access token is unknown, expired or revoked."
        return page(request, "login.html", 401, next=local(next), reason=reason)
    return _logged_in(request, session, local(next))


def log_out(request: Request, service: Asked) -> Response:
    """End the session."""
    caller: Caller = request.state.caller
    if caller.cookie:
        service.access.revoke(caller.access.id)
    answer = RedirectResponse(f"{state_of(request).options.base_path}/login", 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer


def local(path: str) -> str:
    """Return a path of this server as it is, and the first page instead of anything else."""
    return path if _LOCAL.fullmatch(path) else "/"


def _logged_in(request: Request, session: Issued, path: str) -> Response:
    answer = RedirectResponse(f"{state_of(request).options.base_path}{path}", 303)
    answer.set_cookie(
        COOKIE,
        session.secret,
        max_age=int(SESSION_SECONDS),
        path="/",  # optuna-dashboard lies beside the base path
        secure=request.url.scheme == "https",
        httponly=True,
        # strict would lose the session on the way from a link in a mail to the page that it names
        samesite="lax",
    )
    return answer


def _check_throttle(request: Request) -> None:
    seconds = state_of(request).throttle.wait(address_of(request))
    if seconds:
        raise HTTPException(429, f"too many wrong attempts: wait {seconds} s", {"Retry-After": str(seconds)})
