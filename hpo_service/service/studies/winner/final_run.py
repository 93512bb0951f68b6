"""The winner trained in full, on training and validation rows, by a child process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.service.studies.winner.child import answer_of
from hpo_service.service.studies.winner.own_folder import claim
from hpo_service.service.studies.winner.recipe import Recipe

STAGE = "final"
WORK = ".work"
"""Folder beside the result with the checkpoint of a run that has not ended."""


@dataclass(frozen=True)
class FinalRun:
    """What a full run came to.

    Attributes:
        folder: with the weights in PEFT or transformers format and the tokenizer.
        test: mean value on the test rows, which were held out; no decision looked at it.
        curve: share of the run and test value after each epoch.
        rows: that were trained on.
        steps: optimizer steps.
        resumed_at_step: where it went on; 0 where it did not break off.
        device_seconds: of its last part.
        versions: what it was made with.
    """

    folder: Path
    test: float
    curve: list[list[float]]
    rows: int
    steps: int
    resumed_at_step: int
    device_seconds: float
    versions: str


def final_config(recipe: Recipe) -> TrialConfig:
    """Return the run: the schedule over all epochs, evaluated after each, never ended early."""
    given = recipe.training.model_dump(exclude_unset=True)
    watched = {"evaluations_per_epoch": 1, "evaluation_rows": "all", "patience": 0, "micro_batch": recipe.micro_batch}
    return TrialConfig(
        study=recipe.study,
        stage=STAGE,
        parameters={},
        seed=recipe.seed,
        model=recipe.model,
        model_name=recipe.base,
        data=recipe.data,
        training=TrainingSpec.model_validate({**given, **watched}),
        keep_adapter=True,
    )


def train_in_full(
    recipe: Recipe, folder: Path, cache: Path, tell: Callable[[str], object] = lambda _: None
) -> FinalRun:
    """Train a recipe into a folder; an earlier result there is replaced once this one is whole.

    A run of the same recipe that broke off goes on from its checkpoint; other checkpoints are set aside.

    Args:
        recipe: what to train, for how many epochs.
        folder: where the weights go.
        cache: folder of what can be made again.
        tell: given each line about what is being done.

    Raises:
        ConflictError: the folder holds something else.
        TrialError: it cannot be trained here, or it diverged.
        ChildError: the child ended without an answer.
    """
    claim(folder, "train")
    work = folder.absolute() / WORK
    attempt = work / "run" / "attempt-1"
    attempt.mkdir(parents=True, exist_ok=True)
    request = {
        "config": final_config(recipe).model_dump(mode="json", exclude_unset=True),
        "folder": str(attempt),
        "cache": str(cache),
    }
    answer = answer_of("final_run", request, tell)
    adapter = Path(answer.pop("adapter"))
    for old in folder.glob("*.safetensors*"):  # an earlier result may have been in more parts
        old.unlink()
    for file in adapter.iterdir():
        shutil.move(str(file), folder / file.name)
    shutil.rmtree(work, ignore_errors=True)
    return FinalRun(folder=folder, **answer)
