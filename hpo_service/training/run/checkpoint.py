"""Checkpoints that are whole or not there: written beside, synced, renamed; refused where damaged or of another run."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import random
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
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

from hpo_service.errors import FileStoreError
from hpo_service.failpoint import reach
from hpo_service.training.files.atomic_folder import replace_folder, sync, sync_folder
from hpo_service.training.run.history import History
from hpo_service.wire.digests import damaged_file, digest_of_text, digests_of

__all__ = ["Checkpoint", "CheckpointStore", "Identity", "Running", "replace_folder", "save_weights"]

FORMAT = 1
MARKER = "complete.json"
SPARE_BYTES = 1_000_000
"""What a checkpoint leaves free on its disk, for logs and reports."""
RNG_NAME = "rng_state.pth"
# What people call the parts of an identity, where that is another word.
MEANINGS = {"base": "base model", "config": "configuration"}

log = logging.getLogger(__name__)


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
    """The checkpoints of one trial under one folder: `step-<number>-<random>`, the newest complete one counts.

    Each carries the trial's identity, and a digest of every file and of what it says itself. One that is damaged or of
    another trial is set aside, and the one before it counts, which may be an earlier attempt's.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        trial: str = "",
        earlier: Sequence[Path] = (),
        copy: Callable[[], object] = lambda: None,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        """Keep checkpoints in a folder.

        Args:
            folder: of this attempt's checkpoints.
            identity: what they may be resumed on.
            trial: the identity of the trial; empty where it is unknown.
            earlier: folders of checkpoints of earlier attempts, the latest first; they are only read.
            copy: copies what was saved beyond this node, or raises FileStoreError.
            free_bytes: what the disk of a folder has left.
        """
        self._folder, self._identity, self._trial, self._earlier = folder, identity, trial, earlier
        self._copy, self._free_bytes, self._size = copy, free_bytes, 0

    def save(self, step: int, history: History, write: Callable[[Path], object]) -> None:
        """Write the state after an optimizer step, then remove older ones.

        Args:
            step: number of the optimizer step, from 1.
            history: the memory of the run.
            write: fills a folder with the engine's state.

        Raises:
            OSError: the folder cannot be written (disk full, no permission), and older checkpoints stay; or what was
                saved could not be copied to the store.
        """
        self._write(step, history, write)
        try:
            self._copy()
        except FileStoreError as error:
            raise OSError(str(error)) from error

    def _write(self, step: int, history: History, write: Callable[[Path], object]) -> None:
        unfinished = self._folder / f".unfinished-{uuid.uuid4().hex}"
        try:
            unfinished.mkdir(parents=True)
            self._require_space()
            write(unfinished)
            sizes = {path.name: path.stat().st_size for path in unfinished.iterdir()}
            marker = {
                "format": FORMAT,
                "step": step,
                "files": sizes,
                "digests": digests_of(unfinished),
                "course": asdict(history),
                "trial": self._trial,
                **asdict(self._identity),
            }
            (unfinished / MARKER).write_text(json.dumps({**marker, "digest": _digest(marker)}))
            sync(unfinished)
            self._size = sum(sizes.values())
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

    def _require_space(self) -> None:
        """Leave a disk alone that cannot take another checkpoint: what is written there besides needs the rest."""
        free, needed = self._free_bytes(self._folder), self._size + SPARE_BYTES
        if free < needed:
            raise OSError(
                errno.ENOSPC,
                f"{free / 1e6:.0f} MB are left on the disk of {self._folder}, a checkpoint needs {needed / 1e6:.0f}: "
                "free space, for example with `hpo-service clean`",
            )

    def newest(self) -> tuple[Checkpoint | None, str]:
        """The newest checkpoint that fits, or None; with it why a newer one was refused, or nothing."""
        refused = ""
        for folder in self._candidates():
            try:
                return self._read(folder), refused
            except _OtherRunError as error:
                reason = str(error)
            except _DamagedError as error:
                reason = str(error)
                if folder.parent == self._folder:
                    self._set_aside(folder)
            log.warning("%s is not resumed from: %s", folder, reason)
            refused = refused or reason
        return None, refused

    def _candidates(self) -> Iterator[Path]:
        """This attempt's, the newest first; where it was given some and none is good, those of attempts before it."""
        own = sorted(self._steps(), key=_step_of, reverse=True)
        yield from own
        for folder in self._earlier if own else ():
            yield from sorted(folder.glob("step-*"), key=_step_of, reverse=True)

    def _set_aside(self, folder: Path) -> None:
        """Move a checkpoint out of the way of resuming; one is kept."""
        aside = self._folder.with_name(f"{self._folder.name}.refused")
        with contextlib.suppress(OSError):
            aside.mkdir(exist_ok=True)
            # another process of this trial may have been first
            folder.rename(aside / folder.name)
            for older in set(aside.iterdir()) - {aside / folder.name}:
                shutil.rmtree(older, ignore_errors=True)

    def _steps(self) -> list[Path]:
        return [path for path in self._folder.glob("step-*") if not path.is_symlink()]

    def _read(self, folder: Path) -> Checkpoint:
        try:
            marker = json.loads((folder / MARKER).read_text())
            if marker["format"] != FORMAT:
                raise _OtherRunError("the checkpoint was written by another version")
            # earlier versions wrote neither digests nor the trial
            if marker.pop("digest", None) not in (None, _digest(marker)):
                raise _DamagedError(f"the checkpoint is damaged: {MARKER} is not as it was written")
            if self._trial and marker.get("trial", self._trial) != self._trial:
                raise _DamagedError("the checkpoint belongs to a trial of the same name that was deleted")
            self._check_run(marker)
            if any((folder / name).stat().st_size != size for name, size in marker["files"].items()):
                raise _DamagedError("the checkpoint is damaged: a file has another size than was written")
            damaged = damaged_file(folder, marker.get("digests", {}))
            if damaged:
                raise _DamagedError(f"the checkpoint is damaged: {damaged} is not as it was written")
            return Checkpoint(folder, marker["step"], History.read(marker["course"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _DamagedError(f"the checkpoint cannot be read: {' '.join(str(error).split())}") from error

    def _check_run(self, marker: Mapping[str, Any]) -> None:
        for name, value in asdict(self._identity).items():
            if marker[name] != value:
                raise _OtherRunError(f"the checkpoint belongs to another {MEANINGS.get(name, name)}")


class _OtherRunError(Exception):
    """A checkpoint does not fit this run; another engine may take it up."""


class _DamagedError(Exception):
    """A checkpoint is good for nobody."""


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


def _digest(marker: Mapping[str, Any]) -> str:
    """Digest of what a marker says, whatever the order and the spaces; NaN and all, as JSON gives it back."""
    return digest_of_text(json.dumps(json.loads(json.dumps(marker)), sort_keys=True))


def _step_of(folder: Path) -> int:
    return int(folder.name.split("-")[1])
