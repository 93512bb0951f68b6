"""`hpo-service push`: the winner's weights on the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, StudyName, open_service
from hpo_service.cli.winner.options import Weights, weights_of, winner_of


def push(
    name: StudyName,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub.")],
    weights: Weights = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public; else it is private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go, and upload nothing.")] = False,
    storage: StorageUrl = None,
    output: OutputFolder = None,
    as_json: AsJson = False,
) -> None:
    """Upload best/, or a folder of `train` or `merge`, to the Hugging Face hub.

    The token is read from HF_TOKEN and written nowhere. A repository that exists keeps who may see it.
    """
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.service.studies.winner.hub import prepare, upload

    service = open_service(storage, output)
    study, _ = winner_of(service, name)
    wanted = prepare(repository, weights_of(study, weights, service.settings.output), private=not public)
    address = None if dry_run else upload(wanted)
    if as_json:
        about = {"study": name, "repository": repository, "private": wanted.private, "folder": str(wanted.folder)}
        print_json({**about, "files": wanted.files, "uploaded": not dry_run, "address": address})
        return
    for file, size in wanted.files.items():
        typer.echo(f"{size / 1e6:10.3f} MB  {file}")
    if dry_run:
        seen = "private" if wanted.private else "public"
        typer.echo(f"nothing was uploaded; without --dry-run these go to {repository}, which is {seen} where it is new")
    else:
        typer.echo(str(address))
