"""`hpo-service webhook`: whom the server tells that a stage has ended or that there is trouble."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson, StorageUrl, open_service

app = typer.Typer(
    help="Have others told when a stage ends and when there is trouble.", no_args_is_help=True, rich_markup_mode=None
)
WebhookId = Annotated[str, typer.Argument(metavar="ID", help="Its id, see `webhook list`.")]


@app.command(
    epilog=examples(
        "hpo-service webhook add https://hooks.slack.com/services/...",
        "hpo-service webhook add https://ci/hpo --study mine",
    )
)
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where messages are posted: http(s).")],
    study: Annotated[str | None, typer.Option("--study", metavar="STUDY", help="Only of this study.")] = None,
    allow_link_local: Annotated[
        bool, typer.Option("--allow-link-local", help="Post also to addresses where clouds tell credentials.")
    ] = False,
    storage: StorageUrl = None,
    as_json: AsJson = False,
) -> None:
    """Add a webhook and print the secret that its messages are signed with, shown this once.

    Messages are sent by `hpo-service serve`: as JSON with `text`, as Slack reads it, and `event`.
    """
    from hpo_service.cli.rendering.console import print_json

    service = open_service(storage)
    service.upgrade()
    added = service.webhooks.add(url, study, allow_link_local=allow_link_local)
    if as_json:
        print_json({"id": added.id, "secret": added.secret})
        return
    typer.echo(added.secret)
    typer.echo(f"webhook {added.id}: the secret is shown this once; `hpo-service webhook test {added.id}`", err=True)


@app.command("list", epilog=examples("hpo-service webhook list", "hpo-service webhook list --json"))
def list_webhooks(storage: StorageUrl = None, as_json: AsJson = False) -> None:
    """List webhooks, without secrets: of their URLs the host alone."""
    from hpo_service.cli.rendering.console import print_json, print_table
    from hpo_service.cli.rendering.tables import webhook_table
    from hpo_service.presentation.documents.access import webhook_list_document

    found = open_service(storage).webhooks.list_all()
    if as_json:
        print_json(webhook_list_document(found))
        return
    print_table(webhook_table(webhook_list_document(found)), "no webhooks: `hpo-service webhook add` makes one")


@app.command(epilog=examples("hpo-service webhook remove 3f2a9c1d"))
def remove(id: WebhookId, storage: StorageUrl = None) -> None:
    """Remove a webhook, with what it was still to be told."""
    open_service(storage).webhooks.remove(id)
    typer.echo(f"webhook {id} is removed")


@app.command("test", epilog=examples("hpo-service webhook test 3f2a9c1d"))
def send_test(id: WebhookId, storage: StorageUrl = None) -> None:
    """Send a message that says it is a test."""
    open_service(storage).webhooks.test(id)
    typer.echo(f"webhook {id} took the message")
