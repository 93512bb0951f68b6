"""`hpo-service token`: who may use the server."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson, StorageUrl, open_service
from hpo_service.domain.access import Role

app = typer.Typer(help="Make, list and revoke access tokens.", no_args_is_help=True, rich_markup_mode=None)

DAY = 86_400.0


@app.command(
    epilog=examples("hpo-service token create grafana", "hpo-service token create anna --role admin --days 90")
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it, for people.")],
    role: Annotated[
        Role, typer.Option("--role", help="viewer reads; operator also steers studies; admin also deletes.")
    ] = Role.VIEWER,
    days: Annotated[
        float | None, typer.Option("--days", min=0.01, help="Good for so long; by default until it is revoked.")
    ] = None,
    storage: StorageUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make an access token and print its secret, which is kept nowhere: the database has a hash of it."""
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.presentation.documents.access import access_document

    service = open_service(storage)
    service.upgrade()
    issued = service.access.issue(name[:100], role, None if days is None else days * DAY)
    if as_json:
        print_json({**access_document(issued.row), "secret": issued.secret})
        return
    typer.echo(issued.secret)
    typer.echo(f"access token {issued.row.id} for {name}, {role}: shown this once, keep it safe", err=True)


@app.command("list", epilog=examples("hpo-service token list", "hpo-service token list --json"))
def list_tokens(storage: StorageUrl = None, as_json: AsJson = False) -> None:
    """List all access tokens, without their secrets."""
    from hpo_service.cli.rendering.console import print_json, print_table
    from hpo_service.cli.rendering.tables import token_table
    from hpo_service.presentation.documents.access import access_list_document

    found = open_service(storage).access.list_all()
    if as_json:
        print_json(access_list_document(found))
        return
    print_table(token_table(found), "no access tokens: `hpo-service token create` makes one")


@app.command(epilog=examples("hpo-service token revoke 3f2a9c1d"))
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="Its id, see `token list`.")], storage: StorageUrl = None
) -> None:
    """Make a token worthless at once, and log out the browsers that logged in with it."""
    row = open_service(storage).access.revoke(id)
    typer.echo(f"access token {row.id} of {row.name} is revoked")
