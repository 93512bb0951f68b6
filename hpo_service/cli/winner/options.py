"""What the commands about a winner share: its recipe, and where what they do is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hpo_service.bootstrap import Service
    from hpo_service.service.studies.reader import MeasuredStudy
    from hpo_service.service.studies.winner.recipe import Recipe

Epochs = Annotated[
    int | None, typer.Option("--epochs", min=1, max=100, help="Passes over the rows; left out, those of the study.")
]

Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FOLDER", help="Of `train` or `merge`; left out, best/ of the study."),
]


def winner_of(service: Service, name: str, epochs: int | None = None) -> tuple[MeasuredStudy, Recipe]:
    """Read a study and what it recommends.

    Raises:
        NotFoundError: there is no study of this name.
        UsageError, ConflictError: there is nothing that could be taken home.
    """
    from hpo_service.service.studies.winner.recipe import recipe_of

    study = service.reader.measured(name)
    return study, recipe_of(study.snapshot, study.evidence, epochs)


@contextmanager
def telling(what: str) -> Iterator[Callable[[str], object]]:
    """Show what a child is doing on standard error, for as long as it takes."""
    from rich.markup import escape

    from hpo_service.cli.rendering.console import console

    with console(stderr=True).status(what) as status:
        yield lambda line: status.update(escape(line))


def weights_of(study: MeasuredStudy, given: Path | None, output: Path) -> Path:
    """Return the folder of weights that is meant: the one given, or best/, written anew where its adapter is.

    Raises:
        NotFoundError: there is no such folder, or best/ has no weights; the message says why.
    """
    from hpo_service.errors import NotFoundError
    from hpo_service.presentation.exports.best import CONFIG, NAME, missing_adapter, write_best
    from hpo_service.presentation.exports.best_config import found_run

    if given is not None:
        if not given.is_dir():
            raise NotFoundError(f"there is no folder {given}: --weights names one that `train` or `merge` has written")
        return given
    best = output / study.snapshot.name / NAME
    reason, run = missing_adapter(study.snapshot, study.evidence), study.evidence.exported
    if reason is not None and run is not None and any(best.glob("*.safetensors")):
        # the adapter was brought here earlier, from where this machine cannot see it
        if found_run(best / CONFIG) == f"{study.evidence.stage} #{run.number}":
            return best
        reason = f"{reason}, and best/ is of another run"
    if reason is not None:
        raise NotFoundError(
            f"study {study.snapshot.name} has no weights here, {reason}; "
            f"`hpo-service train {study.snapshot.name}` trains them, then give --weights"
        )
    # what lies in best/ may be of a study that has gone on since
    return write_best(study.snapshot, study.evidence, output / study.snapshot.name)
