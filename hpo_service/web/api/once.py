"""`Idempotency-Key`: what creates something does it once, however often its request arrives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from starlette.responses import JSONResponse, Response

from hpo_service.service.idempotency import Idempotency
from hpo_service.web.authentication import Asking
from hpo_service.web.state import Asked

REPLAYED = "Idempotency-Replayed"


class Once:
    """Does what one request asks for, once where the request has a key."""

    def __init__(
        self,
        request: Request,
        service: Asked,
        caller: Asking,
        key: Annotated[
            str | None,
            Header(
                alias="Idempotency-Key",
                min_length=1,
                max_length=200,
                pattern=r"^[\x21-\x7e]*$",
                description="Chosen by the sender: the same request again is answered as before, not done again.",
            ),
        ] = None,
    ) -> None:
        self._key = key
        self._what = f"{request.method} {request.url.path}"
        self._owner = caller.access.owner_id
        self._idempotency: Idempotency = service.idempotency

    def __call__(self, body: str, act: Callable[[], dict[str, Any]], status: int = 201) -> Response:
        """Act and answer.

        Args:
            body: of the request: under the same key it must be the same.
            act: does it and returns the answer's document.
            status: of the answer.
        """
        if self._key is None:
            return JSONResponse(act(), status)
        fingerprint = hashlib.sha256(f"{self._what}\n{body}".encode("utf-8", "replace")).hexdigest()
        answer, replayed = self._idempotency.once(self._owner, self._key, fingerprint, act)
        return JSONResponse(answer, status, {REPLAYED: "true"} if replayed else None)


Doing = Annotated[Once, Depends(Once)]
