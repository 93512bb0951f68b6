"""`hpo-service db`: the schema of the study database."""

from __future__ import annotations

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson, StorageUrl, open_service

app = typer.Typer(help="Create, upgrade and check the database.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog=examples("hpo-service db upgrade", "hpo-service db upgrade --storage postgresql://hpo@db/hpo"))
def upgrade(storage: StorageUrl = None) -> None:
    """Bring the schema up to this version; safe from any number of processes at once, and on an empty database."""
    service = open_service(storage)
    service.upgrade()
    typer.echo(f"{service.db.safe_url} is at revision {service.revision()}")


@app.command(epilog=examples("hpo-service db current"))
def current(storage: StorageUrl = None, as_json: AsJson = False) -> None:
    """Print the revision the database is at."""
    from hpo_service.cli.rendering.console import print_json

    service = open_service(storage)
    revision = service.revision()
    if as_json:
        print_json({"storage": service.db.safe_url, "revision": revision})
        return
    typer.echo(revision or "empty: run `hpo-service db upgrade`")


@app.command(epilog=examples("hpo-service db check && hpo-service worker"))
def check(storage: StorageUrl = None) -> None:
    """Check that the schema is exactly the one this version expects; exit status 6 where it is not."""
    service = open_service(storage)
    service.check_schema()
    typer.echo(f"{service.db.safe_url} fits this version")
