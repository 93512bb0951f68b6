"""`hpo-service memory`: what the trials of a study file will need of a GPU's memory, part by part, before any runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpo_service.cli.model_config import read_config
from hpo_service.cli.options import AsJson
from hpo_service.cli.study import StudyPath
from hpo_service.domain.decide.memory_outlook import Outlook, memory_outlook
from hpo_service.domain.memory.estimate import estimate
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import HpoServiceError, NotFoundError, UsageError
from hpo_service.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

USUAL_GB = (16.0, 24.0, 48.0, 80.0)
"""Memory of common GPUs, where this machine has none."""

GpuSizes = Annotated[
    list[float] | None,
    typer.Option("--gpu", metavar="GB", min=0.1, help="Memory of a GPU, in GB; may be given several times."),
]


@dataclass(frozen=True)
class Member:
    """One model of a study and what its trials need."""

    role: str
    name: str
    outlook: Outlook

    def as_json(self, sizes: tuple[float, ...]) -> dict[str, Any]:
        """The outlook as plain data, in GB of 1e9 bytes."""
        largest = estimate(self.outlook.largest)
        return {
            "model": self.name,
            "parts": largest.parts,
            "context_and_fragmentation": largest.reserve_gb,
            "largest_gb": largest.total_gb,
            "smallest_gb": estimate(self.outlook.smallest).total_gb,
            "micro_batch": {f"{size:g}": self.outlook.micro_batch_on(size) for size in sizes},
        }


def memory(file: StudyPath, gpu: GpuSizes = None, as_json: AsJson = False) -> None:
    """Say what the trials of a study file will need of a GPU's memory: an estimate by parts, without loading a model.

    The figures are those of the largest configuration of the search space, with rows of data.max_length tokens.
    """
    from hpo_service.cli.console import console, print_json
    from hpo_service.cli.study_source import load_study

    spec = load_study(file, warn=not as_json)
    members, missing = look_up(spec, Settings.read())
    sizes = tuple(gpu or ()) or sizes_here() or USUAL_GB
    for reason in missing:
        sys.stderr.write(f"warning: {reason}\n")
    if as_json:
        print_json({member.role: member.as_json(sizes) for member in members})
        return
    console().print(memory_table(members, sizes))


def look_up(spec: StudySpec, settings: Settings) -> tuple[list[Member], list[str]]:
    """The models of a study with their outlooks, and a line for each of which nothing can be said.

    Raises:
        UsageError: the study trains no model of ours.
        NotFoundError: nothing can be said of any of its models.
    """
    if spec.model is None:
        raise UsageError(f"study {spec.name} has an objective of its own: what that needs cannot be told")
    if all(METHODS[str(method)].base == "new" for method in spec.values_of("method")):
        raise UsageError(
            f"study {spec.name} builds its models from scratch, in sizes that trials choose: they are small"
        )
    members, missing = [], []
    for role, name in (("base", spec.model.base), ("target", spec.model.target)):
        if name is None:
            continue
        try:
            shape = ModelShape.read(read_config(name, settings.cache, spec.model.revision_of(name)))
        except NotFoundError as error:
            missing.append(str(error))
            continue
        outlook = memory_outlook(spec, shape, target=role == "target") if shape is not None else None
        if outlook is None:
            missing.append(f"model {name}: its configuration does not tell what a trial needs")
        else:
            members.append(Member(role, name, outlook))
    if not members:
        raise NotFoundError("; ".join(missing))
    return members, missing


def sizes_here() -> tuple[float, ...]:
    """Memory in GB of this machine's GPUs, each size once."""
    from hpo_service.launch.devices import list_gpus

    try:
        found = {round(gpu.memory_mib * 2**20 / 1e9, 1) for gpu in list_gpus() if gpu.memory_mib}
    except HpoServiceError:
        return ()
    return tuple(sorted(found))


def memory_table(members: list[Member], sizes: tuple[float, ...]) -> Table:
    """The parts, totals and micro-batches of each model, in columns."""
    from rich import box
    from rich.table import Table

    table = Table("GB", *(f"{m.role}: {m.name}" for m in members), box=box.SIMPLE, header_style="bold")
    for column in table.columns[1:]:
        column.justify, column.overflow = "right", "fold"
    estimates = [estimate(member.outlook.largest) for member in members]
    for part in estimates[0].parts:
        table.add_row(part, *(f"{each.parts[part]:.2f}" for each in estimates))
    table.add_row("context and fragmentation", *(f"{each.reserve_gb:.2f}" for each in estimates), end_section=True)
    table.add_row("largest trial", *(f"{each.total_gb:.2f}" for each in estimates), style="bold")
    smallest = [estimate(member.outlook.smallest).total_gb for member in members]
    table.add_row("smallest trial", *(f"{total:.2f}" for total in smallest))
    table.add_row("micro-batch", *(str(member.outlook.largest.micro_batch) for member in members), end_section=True)
    for size in sizes:
        fits = (member.outlook.micro_batch_on(size) for member in members)
        table.add_row(f"micro-batch on {size:g} GB", *("too large" if rows is None else str(rows) for rows in fits))
    return table
