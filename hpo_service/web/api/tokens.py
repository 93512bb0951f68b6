"""Access tokens: made, listed and revoked; and who is asking."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from hpo_service.presentation.documents.access import access_document, access_list_document
from hpo_service.web.api.bodies import NewToken, TokenId
from hpo_service.web.authentication import Asking
from hpo_service.web.state import Asked

DAY = 86_400.0


def show_me(caller: Asking) -> Response:
    """Say who is asking, and what they may do."""
    return JSONResponse({"name": caller.name, "role": str(caller.role), "csrf_token": caller.csrf_token})


def list_tokens(service: Asked) -> Response:
    """List all access tokens, without their secrets."""
    return JSONResponse(access_list_document(service.access.list_all()))


def create_token(service: Asked, new: NewToken) -> Response:
    """Make an access token. Its secret is in this answer and nowhere else, so no `Idempotency-Key` is taken."""
    issued = service.access.issue(new.name, new.role, None if new.days is None else new.days * DAY)
    return JSONResponse({**access_document(issued.row), "secret": issued.secret}, 201)


def revoke_token(service: Asked, id: TokenId) -> Response:
    """Make a token worthless, and log out the browsers that logged in with it."""
    return JSONResponse(access_document(service.access.revoke(id)))
