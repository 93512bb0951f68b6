"""Checkpoints that are whole or not there: written beside, synced, renamed; refused for another base or config."""

from __future__ import annotations

import json
import random
import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file
from transformers import PreTrainedModel, TrainerState
from transformers.trainer import OPTIMIZER_NAME, SCALER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME

from hpo_service.failpoint import reach
from hpo_service.training.files.atomic_folder import replace_folder, sync, sync_folder
from hpo_service.training.run.history import History

__all__ = ["Checkpoint", "CheckpointStore", "Identity", "Running", "replace_folder", "save_weights"]

FORMAT = 1
MARKER = "complete.json"
RNG_NAME = "rng_state.pth"
# What people call the parts of an identity, where that is another word.
MEANINGS = {"base": "base model", "config": "configuration"}


@dataclass(frozen=True)
class Identity:
    """What a checkpoint may be resumed on: the same base, configuration and rows, by the engine that wrote it."""

    base: str
    config: str
    data: str
    engine: str = "solo"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: its folder (in the engine's own format) and the memory of the run."""

    folder: Path
    step: int
    history: History


@dataclass(frozen=True)
class Running:
    """The live objects of a run under the Trainer, whose state together is the state of the run."""

    model: PreTrainedModel | PeftModel
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    state: TrainerState
    scaler: Any = None

    def write(self, folder: Path) -> None:
        """Write the files that `Trainer.train(resume_from_checkpoint=...)` reads."""
        _write_weights(self.model, folder)
        torch.save(self.optimizer.state_dict(), folder / OPTIMIZER_NAME)
        torch.save(self.scheduler.state_dict(), folder / SCHEDULER_NAME)
        if self.scaler is not None:
            torch.save(self.scaler.state_dict(), folder / SCALER_NAME)
        torch.save(_random_states(), folder / RNG_NAME)
        self.state.save_to_json(str(folder / TRAINER_STATE_NAME))


class CheckpointStore:
    """The checkpoints of one trial under one folder: `step-<number>-<random>`, the newest complete one counts."""

    def __init__(self, folder: Path, identity: Identity) -> None:
        self._folder, self._identity = folder, identity

    def save(self, step: int, history: History, write: Callable[[Path], object]) -> None:
        """Write the state after an optimizer step, then remove older ones.

        Args:
            step: number of the optimizer step, from 1.
            history: the memory of the run.
            write: fills a folder with the engine's state.

        Raises:
            OSError: the folder cannot be written (disk full, no permission); older checkpoints stay.
        """
        unfinished = self._folder / f".unfinished-{uuid.uuid4().hex}"
        try:
            unfinished.mkdir(parents=True)
            write(unfinished)
            sizes = {path.name: path.stat().st_size for path in unfinished.iterdir()}
            marker = {
                "format": FORMAT,
                "step": step,
                "files": sizes,
                "course": asdict(history),
                **asdict(self._identity),
            }
            (unfinished / MARKER).write_text(json.dumps(marker))
            sync(unfinished)
            unfinished.rename(self._folder / f"step-{step:08d}-{uuid.uuid4().hex[:8]}")
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        # torch and safetensors report a full disk as errors of their own.
        except Exception as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise OSError(" ".join(str(error).split())) from error
        sync_folder(self._folder)
        reach("checkpoint.written")
        for older in self._steps():
            if _step_of(older) < step:
                shutil.rmtree(older, ignore_errors=True)

    def newest(self) -> tuple[Checkpoint | None, str]:
        """The newest checkpoint that fits, or None; with it why one that is there was refused, or nothing."""
        refused = ""
        for folder in sorted(self._steps(), key=_step_of, reverse=True):
            found, reason = self._read(folder)
            if found is not None:
                return found, ""
            refused = refused or reason
        return None, refused

    def _steps(self) -> list[Path]:
        return [path for path in self._folder.glob("step-*") if not path.is_symlink()]

    def _read(self, folder: Path) -> tuple[Checkpoint | None, str]:
        try:
            marker = json.loads((folder / MARKER).read_text())
            if marker["format"] != FORMAT:
                return None, "the checkpoint was written by another version"
            for name, value in asdict(self._identity).items():
                if marker[name] != value:
                    return None, f"the checkpoint belongs to another {MEANINGS.get(name, name)}"
            if any((folder / name).stat().st_size != size for name, size in marker["files"].items()):
                return None, "the checkpoint is damaged: a file has another size than was written"
            return Checkpoint(folder, marker["step"], History.read(marker["course"])), ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            return None, f"the checkpoint cannot be read: {' '.join(str(error).split())}"


def _write_weights(model: PreTrainedModel | PeftModel, folder: Path) -> None:
    """Write what `save_weights` writes without the model card, which costs more than the rest at every checkpoint."""
    if not isinstance(model, PeftModel):
        model.save_pretrained(str(folder))
        return
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / SAFETENSORS_WEIGHTS_NAME)
    model.peft_config[model.active_adapter].save_pretrained(str(folder))


def save_weights(model: PreTrainedModel | PeftModel, folder: Path) -> None:
    """Write the trained weights for others to load: the adapter alone, or all weights of a model trained in full."""
    if isinstance(model, PeftModel):
        # "auto" would ask the hub about the base's vocabulary
        model.save_pretrained(str(folder), save_embedding_layers=False)
    else:
        model.save_pretrained(str(folder))


def _random_states() -> dict[str, Any]:
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _step_of(folder: Path) -> int:
    return int(folder.name.split("-")[1])
