"""`hpo-service memory`: what the trials of a study file will need of a GPU's memory, part by part, before any runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hpo_service.cli.options import AsJson
from hpo_service.cli.study_file import StudyPath, load_study
from hpo_service.settings import Settings

USUAL_GB = (16.0, 24.0, 48.0, 80.0)
"""Memory of common GPUs, where this machine has none."""

GpuSizes = Annotated[
    list[float] | None,
    typer.Option("--gpu", metavar="GB", min=0.1, help="Memory of a GPU, in GB; may be given several times."),
]


def memory(file: StudyPath, gpu: GpuSizes = None, as_json: AsJson = False) -> None:
    """Say what the trials of a study file will need of a GPU's memory: an estimate by parts, without loading a model.

    The figures are those of the largest configuration of the search space, with rows of data.max_length tokens.
    """
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.launch.devices import gpu_sizes
    from hpo_service.presentation.sizing.memory import memory_document
    from hpo_service.service.studies.memory import memory_of

    spec = load_study(file, warn=not as_json)
    models, missing = memory_of(spec, Settings.read().cache)
    sizes = tuple(gpu or ()) or gpu_sizes() or USUAL_GB
    for reason in missing:
        sys.stderr.write(f"warning: {reason}\n")
    if as_json:
        print_json(memory_document(models, sizes))
        return
    from hpo_service.cli.rendering.pages import memory_page

    console().print(memory_page(models, sizes))
