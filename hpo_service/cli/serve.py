"""`hpo-service serve`: the pages, the API and optuna-dashboard, behind a login."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli.options import OutputFolder, StorageUrl, open_service
from hpo_service.errors import UsageError


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")] = 8080,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key, PEM.")] = None,
    base_path: Annotated[
        str, typer.Option("--base-path", metavar="PATH", help="What a reverse proxy puts before every path, e.g. /hpo.")
    ] = "",
    allow_dashboard_writes: Annotated[
        bool,
        typer.Option("--allow-dashboard-writes", help="Let operators change Optuna's studies in optuna-dashboard."),
    ] = False,
    storage: StorageUrl = None,
    output: OutputFolder = None,
) -> None:
    """Serve pages, JSON API and optuna-dashboard to people with an access token.

    Where there is no token yet, a server on this machine alone prints a link that logs in once; on any other address it
    does not start. It also takes trials back from silent workers. SIGTERM or Ctrl-C ends it.
    """
    try:
        from hpo_service.web.options import ServeOptions
        from hpo_service.web.server import CONNECTIONS
        from hpo_service.web.server import serve as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("hpo_service"):
            raise
        raise UsageError(
            f"serve needs {error.name}, which is not installed: `pip install 'hpo-service[web]'`"
        ) from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    service = replace(open_service(storage, output), connections=CONNECTIONS)
    options = ServeOptions(host, port, tls_cert, tls_key, base_path, allow_dashboard_writes)
    run(service, options, lambda line: typer.echo(line, err=line.startswith("warning")))
