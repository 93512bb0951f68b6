"""`hpo-service report`: write the report and the best config of a study, finished or not."""

from __future__ import annotations

import typer

from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, StudyName, open_service


def report(name: StudyName, storage: StorageUrl = None, output: OutputFolder = None, as_json: AsJson = False) -> None:
    """Write report.html and best/ of a study from what is measured so far."""
    from hpo_service.cli.run import conclude

    raise typer.Exit(conclude(open_service(storage, output), name, as_json=as_json))
