"""Whom a client asks: a server where it is given http(s), else a database."""

from __future__ import annotations

from pathlib import Path

from hpo_service.client.client import Client
from hpo_service.client.transport import Transport
from hpo_service.errors import UsageError


def connect(url: str | Path, token: str | None = None) -> Client:
    """Return a client of a server or of a database.

    Args:
        url: `https://host/base` of a server; `postgresql://...`, `sqlite:///FILE` or a path of a database, which must
            be there already.
        token: access token for a server.

    Raises:
        UsageError: it is neither, or a token is given for a database.
    """
    text = str(url)
    if text.startswith(("http://", "https://")):
        return Client(_http(text, token))
    if token is not None:
        raise UsageError("an access token is for a server, and this is a database: leave it out, or give http(s)://...")
    from hpo_service.client.database import DatabaseTransport

    return Client(DatabaseTransport(text if "://" in text else _file(Path(text))))


def _http(url: str, token: str | None) -> Transport:
    try:
        from hpo_service.client.http import HttpTransport
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("hpo_service"):
            raise
        raise UsageError(
            f"this needs {error.name}, which is not installed: `pip install 'hpo-service[client]'`"
        ) from None
    return HttpTransport(url, token)


def _file(path: Path) -> str:
    file = path.expanduser().absolute()
    if not file.is_file():
        raise UsageError(f"there is no database {path}: name its file, or write sqlite:///FILE or http://...")
    return f"sqlite:///{file}"
