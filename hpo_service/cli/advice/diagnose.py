"""`hpo-service diagnose`: what may be wrong with a run, by its log, or with the runs of a study, and what helps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, open_service
from hpo_service.errors import UsageError

Log = Annotated[
    Path | None, typer.Argument(metavar="LOG", help="A trainer_state.json of transformers, or the folder it lies in.")
]
OfStudy = Annotated[str | None, typer.Option("--study", metavar="NAME", help="Diagnose the trials of this study.")]


def diagnose(
    log: Log = None,
    study: OfStudy = None,
    storage: StorageUrl = None,
    output: OutputFolder = None,
    as_json: AsJson = False,
) -> None:
    """Name what is wrong with a training run, the figures that show it, and what helps.

    LOG is what transformers' Trainer writes into every checkpoint folder, of any run of anybody's. With --study the
    complete trials of a study are judged instead, and whether its best configuration lies at the edge of the space.
    """
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.presentation.advice import diagnosis as shown

    if (log is None) == (study is None):
        raise UsageError("name a LOG, or a study with --study NAME: one of the two")
    if study is not None:
        from hpo_service.service.advice.study import diagnose_study

        found = diagnose_study(open_service(storage, output).reader.snapshot(study))
        if as_json:
            print_json(shown.study_document(found))
            return
        for line in shown.study_lines(found):
            typer.echo(line)
        return
    from hpo_service.domain.advise.diagnosis import diagnose as judge
    from hpo_service.service.advice.logs import read_log

    assert log is not None
    file, run = read_log(log)
    faults = judge(run)
    if as_json:
        print_json(shown.log_document(str(file), run, faults))
        return
    for line in shown.log_lines(run, faults):
        typer.echo(line)
