"""`hpo-service clean`: remove what the trials of a study have left and nobody needs."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, open_service


def clean(
    study: Annotated[str, typer.Option("--study", metavar="STUDY", help="Name of the study.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go, and remove nothing.")] = False,
    strangers: Annotated[
        bool,
        typer.Option(
            "--strangers",
            help="Also of trials that this database does not know: of a study that was deleted, or of one of this "
            "name in another database, which may need them.",
        ),
    ] = False,
    storage: StorageUrl = None,
    output: OutputFolder = None,
    as_json: AsJson = False,
) -> None:
    """Remove checkpoints of trials that have ended, and adapters that are not kept.

    It looks at the output folder of this machine and at the store (HPO_SERVICE_STORE). Workers do the same as trials
    end; this is for what a crash, a full disk or a store that did not answer has left.
    """
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.filestore.store import store_at

    service = open_service(storage, output)
    settings = service.settings
    found = service.cleaning.find(study, settings.output, store_at(settings.store), strangers=strangers)
    for each in found if not dry_run else ():
        each.remove()
    total = sum(each.size for each in found)
    if as_json:
        listed = [{"where": each.where, "why": each.why, "bytes": each.size} for each in found]
        print_json({"study": study, "removed": not dry_run, "bytes": total, "found": listed})
        return
    for each in found:
        typer.echo(f"{each.size / 1e6:10.1f} MB  {each.where}  ({each.why})")
    done = "would be freed" if dry_run else "were freed"
    typer.echo(f"{total / 1e6:.1f} MB {done}" if found else "nothing to remove")
