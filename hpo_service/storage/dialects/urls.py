"""Database URLs: which are understood, and what of one may be shown."""

from __future__ import annotations

import re
from urllib.parse import quote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from hpo_service.errors import UsageError

DRIVERS: dict[str, str] = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
"""What a URL may start with, and the driver that is used for it."""

HIDDEN = "***"
_PLAIN = re.compile(r"(?P<before>[\w+]+://[^:/?#@]*:)(?P<password>[^?]*)(?P<after>@.*)", re.DOTALL)


def parsed(url: str) -> URL:
    """Read a URL; a password may hold `@`, `/`, `:` and `#` as they are, while `?` and `%` need their codes.

    Raises:
        UsageError: it cannot be read or names another kind of database.
    """
    try:
        found = make_url(_with_quoted_password(url))
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            "the storage URL cannot be read: write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        ) from error
    driver = DRIVERS.get(found.drivername)
    if driver is None:
        raise UsageError(f"the storage URL starts with {found.drivername!r}: write sqlite:///FILE or postgresql://...")
    if driver == "sqlite" and found.database in (None, "", ":memory:"):
        raise UsageError("the storage URL names no file, and memory cannot be shared: write sqlite:///FILE")
    return found.set(drivername=driver)


def prepare_threshold(url: URL) -> int | None:
    """After how many uses a statement is prepared, as a URL's `prepare_threshold` says; None is never.

    Raises:
        UsageError: it is neither `none` nor a number.
    """
    said = url.query["prepare_threshold"]
    if said == "none":
        return None
    if isinstance(said, str) and said.isdecimal():
        return int(said)
    raise UsageError(f"the storage URL has prepare_threshold={said}: write none, or a number of uses")


def without_secrets(url: URL) -> str:
    """Write a URL for people to see: no password, neither before the host nor among the parameters."""
    ends = (url.host or "", *url.query, *map(str, url.query.values()))
    if url.username is not None and any("@" in end for end in ends):
        # the password has characters that end it: what stands behind may be the rest of it
        return f"{url.drivername}://{HIDDEN}"
    hidden = {name: "HIDDEN" for name in url.query if "password" in name.lower()}
    shown = url.update_query_dict(hidden).render_as_string(hide_password=True)
    return shown.replace("=HIDDEN", f"={HIDDEN}")  # asterisks would be written as %2A


def _with_quoted_password(url: str) -> str:
    """Give `@` and `/` in a password their codes: it ends at the last `@` before the parameters."""
    found = None if url.startswith("sqlite") else _PLAIN.fullmatch(url)
    if found is None:
        return url
    return found["before"] + quote(found["password"], safe="%:!$&'()*+,;=~-._") + found["after"]
