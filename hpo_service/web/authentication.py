"""Who is asking, whether they may, and whether their browser meant it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from hpo_service.domain.access import Role
from hpo_service.service.access import AccessKind, AccessRow
from hpo_service.web.state import state_of

COOKIE = "hpo_session"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(frozen=True)
class Caller:
    """Who is asking.

    Attributes:
        access: the token or session they showed.
        cookie: the session's secret where a browser sent it by itself; empty for a token.
    """

    access: AccessRow
    cookie: str = ""

    @property
    def role(self) -> Role:
        """What they may do."""
        return self.access.role

    @property
    def name(self) -> str:
        """What their token is called, for reasons that are stored."""
        return self.access.name

    @property
    def csrf_token(self) -> str:
        """What a form must send along, which no page of another site can know; empty where no cookie is used."""
        if not self.cookie:
            return ""
        return hmac.new(self.cookie.encode(), b"hpo-service form", hashlib.sha256).hexdigest()


async def admit(request: Request, least: Role | None, *, csrf: bool = True) -> None:
    """Let a request in, and note its caller in `request.state.caller`.

    Args:
        request: the request; its body is read only for a form's field.
        least: the least role that may; None where everybody may.
        csrf: whether a browser must prove by a token that the page was ours; without it by its own word alone.

    Raises:
        HTTPException: 401 nobody known is asking, 403 they may not, 429 too many wrong secrets.
        DatabaseUnavailableError: it cannot be told who is asking.
    """
    if least is None:
        return
    request.state.caller = caller = await run_in_threadpool(_identify, request)
    if caller is None:
        raise _unknown("log in, or send an access token as `Authorization: Bearer ...`")
    require_role(caller, least)
    if caller.cookie and request.method not in SAFE_METHODS:
        check_same_site(request, strictly=not csrf)
        if csrf:
            await _check_token(request, caller)


def require_role(caller: Caller, least: Role) -> None:
    """Refuse who may not.

    Raises:
        HTTPException: 403.
    """
    if not caller.role.allows(least):
        raise HTTPException(403, f"this needs the role {least}; {caller.name} has the role {caller.role}")


def guarded(least: Role | None) -> type[APIRoute]:
    """Return a class of routes that admit before anything of a request is read."""

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def admitted(request: Request) -> Response:
                await admit(request, least)
                return await handle(request)

            return admitted

    return GuardedRoute


def check_same_site(request: Request, *, strictly: bool = False) -> None:
    """Refuse what a browser sends on behalf of another site, by what the browser itself says.

    Args:
        request: the request.
        strictly: refuse also where the browser says nothing.

    Raises:
        HTTPException: 403.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    silent = site is None and origin is None
    foreign = site not in (None, "same-origin", "none")
    elsewhere = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or elsewhere or (strictly and silent):
        raise HTTPException(403, "the request comes from another site's page: repeat it from a page of this server")


async def _check_token(request: Request, caller: Caller) -> None:
    given = request.headers.get(CSRF_HEADER)
    if given is None and request.headers.get("content-type", "").startswith(FORMS):
        given = str((await request.form()).get(CSRF_FIELD, ""))
    if not hmac.compare_digest((given or "").encode(), caller.csrf_token.encode()):
        raise HTTPException(403, f"the header {CSRF_HEADER} is missing or wrong: load the page again")


def address_of(request: Request) -> str:
    """Return where a request comes from; behind a reverse proxy that is known, what the proxy says."""
    return request.client.host if request.client else "unknown"


def _identify(request: Request) -> Caller | None:
    access = state_of(request).service.access
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, secret = header.partition(" ")
        found = access.recognise(secret.strip(), AccessKind.TOKEN) if scheme.lower() == "bearer" else None
        if found is None:
            raise _wrong(request)
        return Caller(found)
    cookie = request.cookies.get(COOKIE)
    session = access.recognise(cookie, AccessKind.SESSION) if cookie else None
    return None if session is None or cookie is None else Caller(session, cookie)


def _wrong(request: Request) -> HTTPException:
    """Note a wrong secret; those behind the same address with a right one are served all the same."""
    throttle, address = state_of(request).throttle, address_of(request)
    seconds = throttle.wait(address)
    if seconds:
        return HTTPException(429, f"too many wrong secrets: wait {seconds} s", {"Retry-After": str(seconds)})
    throttle.wrong(address)
    return _unknown("this access token is unknown, expired or revoked: ask an admin for another")


def _unknown(detail: str) -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": 'Bearer realm="hpo-service"'})


def _caller_of(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


Asking = Annotated[Caller, Depends(_caller_of)]
"""A handler's parameter that is who asks; only where the route names a role."""
