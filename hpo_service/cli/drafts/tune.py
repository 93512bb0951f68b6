"""`hpo-service tune`: from a model and rows to a configuration to take home, without a study file to begin with."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hpo_service.cli.drafts.wishes import (
    Budget,
    File,
    Gpu,
    Keys,
    Method,
    Name,
    Only,
    Overwrite,
    Target,
    is_of,
    read_wishes,
    write_study,
)
from hpo_service.cli.options import AsJson, OutputFolder, Quiet, StorageUrl, Telling, Verbose, open_service
from hpo_service.cli.rendering.ahead import print_ahead
from hpo_service.cli.run import Workers, run_study
from hpo_service.errors import UsageError


def tune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub name, folder or builtin: name of the model.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="The rows: file, folder, hub data set or builtin: name.")],
    target: Target = None,
    name: Name = None,
    method: Method = None,
    only: Only = None,
    budget: Budget = None,
    gpu: Gpu = None,
    keys: Keys = None,
    file: File = None,
    overwrite: Overwrite = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it runs.")] = False,
    workers: Workers = None,
    storage: StorageUrl = None,
    output: OutputFolder = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Tune a model on rows: write the study file, say what it will do, ask once, run it.

    The study file is kept: change it and run it with `hpo-service run FILE`. Ctrl-C saves the running trials and
    stops; the same command goes on where it stopped. Before it asks, it trains a few steps here, to say what the study
    takes. Exit status as of `run`; 0 too where the answer is no.
    """
    telling = Telling(as_json, quiet, verbose)
    asked = read_wishes(model, data, target, name, method, only, budget, keys, gpu, file)
    path = asked.path
    if overwrite or not is_of(asked):
        write_study(asked, gpu, overwrite=overwrite, quiet=not telling.progress)
        said = f"{path} is written; it says why each choice was made"
    else:
        said = f"{path} is there already, and is gone on with"
    # who is asked has to know what for
    if telling.progress or (telling.quiet and not yes):
        typer.echo(said)
        print_ahead(path, storage, timed=not yes)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"nobody is there to ask: say --yes, or run `hpo-service run {path}`")
        if not typer.confirm("Run it now?", default=True, err=as_json):
            typer.echo(f"`hpo-service run {path}` runs it", err=as_json)
            return
    raise typer.Exit(run_study(open_service(storage, output), path, workers, quick=telling.progress, telling=telling))
