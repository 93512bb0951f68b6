"""`hpo-service report`: write the report and the best config of a study, finished or not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, StudyName, open_service
from hpo_service.errors import UsageError

if TYPE_CHECKING:
    from hpo_service.bootstrap import Service


def report(
    name: StudyName,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the report as Markdown, and write nothing.")
    ] = False,
    storage: StorageUrl = None,
    output: OutputFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write report.html and best/ of a study from what is measured so far."""
    service = open_service(storage, output)
    if not markdown:
        print_conclusion(service, name, as_json=as_json)
        return
    from hpo_service.presentation.report.markdown import render_markdown

    if as_json:
        raise UsageError("--json and --markdown are two answers: ask for one")
    study = service.reader.measured(name)
    sys.stdout.write(render_markdown(study.snapshot, study.evidence))


def print_conclusion(service: Service, name: str, *, as_json: bool, quiet: bool = False) -> None:
    """Write report and best config of a study and say what was found; a quiet command says the verdict alone.

    Raises:
        StudyFailedError: the study ended without a result.
        FileStoreError: report and best config were written here but could not be copied to the store.
    """
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.cli.rendering.tables import verdict_line, verdict_table
    from hpo_service.filestore.store import store_at
    from hpo_service.presentation.conclusion import conclude, publish

    conclusion = conclude(service.reader, name, service.settings.output)
    store = store_at(service.settings.store)
    copied = publish(conclusion, store) if store is not None else ""
    if as_json:
        print_json({**conclusion.document(), **({"store": copied} if copied else {})})
        return
    out = console()
    if quiet:
        out.print(verdict_line(conclusion.study.evidence))
        return
    out.print(verdict_table(conclusion.study.evidence))
    for export, path in conclusion.written.items():
        out.print(f"{export.capitalize():<8}{path}")
    if copied:
        out.print(f"{'Copied':<8}{copied}")
