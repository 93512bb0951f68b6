"""Short runs: with a learning rate that rises at every step, at several constant ones, or a few steps to be timed."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, TrainerCallback

from hpo_service.domain.advise.range_test import Ramp, RangeTest
from hpo_service.domain.decide.watched_rows import PASSES, watched_rows
from hpo_service.domain.study.combinations import conflict
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.errors import DataError, TrialError, UnfitError
from hpo_service.training.data.row_cache import RowCache
from hpo_service.training.data.rows import StudyRows
from hpo_service.training.distributed.process_group import ProcessGroup
from hpo_service.training.engines.trainer import build_trainer
from hpo_service.training.files.node_cache import Progress
from hpo_service.training.models.adapter import trainable
from hpo_service.training.models.base import Base, BaseKey, load_base
from hpo_service.training.run.device_memory import Need, capacity_gb, check_before_loading
from hpo_service.training.run.oom import too_large, until_out_of_memory
from hpo_service.training.run.steps import StepPlan
from hpo_service.training.scoring.evaluation import evaluate, inner_model

# Validation rows of a sweep: what tells two rates apart (docs/search.md, "Why 256 rows are enough").
VALIDATION_ROWS = 256
# Last steps whose mean loss stands for a rate.
LAST_STEPS = 10
# Passes over the rows that short runs may make; TrainingSpec takes no more.
MOST_EPOCHS = 100
SWEEP_WARM_UP = 0.1


@dataclass
class ShortRuns:
    """Short runs of one configuration, each from the same adapters on the same base."""

    config: TrialConfig
    cache: Path
    progress: Progress
    _base: Base | None = None
    _rows: StudyRows | None = field(default=None, repr=False)

    def ramp(self, ramp: Ramp) -> tuple[RangeTest, str]:
        """Train while the rate rises; return the test and why it ended before its last step, if it did.

        Raises:
            ModelError, DataError: model or rows cannot be used.
            UnfitError: the settings do not go together, or need more memory than there is.
        """
        test = RangeTest(ramp)
        stopped: list[str] = []

        def observe(loss: float) -> bool:
            stopped.extend(filter(None, [test.add(loss)]))
            done = len(test.losses)
            if done % 10 == 0:
                self.progress(f"range test at a rate of {ramp.rate(done):.1e}", done / ramp.steps)
            return bool(stopped)

        with self._model(learning_rate=ramp.low, scheduler="constant", warmup_ratio=0.0) as (config, model):
            self._train(config, model, ramp.steps, observe, ramp.factor)
        return test, stopped[0] if stopped else ""

    def constant(self, rate: float, steps: int) -> dict[str, float | None]:
        """Train at one rate and say what came of it: losses in nats a token, None where they are no numbers.

        Raises:
            As `ramp`.
        """
        losses: list[float] = []

        def observe(loss: float) -> bool:
            losses.append(loss)
            return not math.isfinite(loss)

        self.progress(f"sweep at a rate of {rate:.1e}", 0.0)
        settings = {"learning_rate": rate, "scheduler": "constant_with_warmup", "warmup_ratio": SWEEP_WARM_UP}
        with self._model(**settings) as (config, model):
            self._train(config, model, steps, observe, None)
            base, rows = self._loaded()
            inner, held_out = inner_model(model), rows.validation.first(min(VALIDATION_ROWS, len(rows.validation)))
            scores = evaluate(inner, held_out, base.padding, compute=base.key.compute)
        found = {"train_loss": statistics.fmean(losses[-LAST_STEPS:]), "validation_loss": scores.mean}
        return {"rate": rate, **{name: value if math.isfinite(value) else None for name, value in found.items()}}

    def pace(self, steps: int, clock: Callable[[], float] = time.monotonic) -> dict[str, float]:
        """Train a few steps and say how long a run would take.

        Args:
            steps: optimizer steps to train, at least 2; the first one, which is slower, is not counted.
            clock: seconds.

        Returns:
            `step_seconds`, the median of a step; `steps` of a whole run; `evaluated`, the rows of all its evaluations
            as a share of those that it is trained on, counted in passes through the base; `loading_seconds`.

        Raises:
            As `ramp`.
        """
        began = clock()
        _, rows = self._loaded()
        loading = clock() - began
        moments: list[float] = []

        def observe(_loss: float) -> bool:
            moments.append(clock())
            return False

        with self._model(scheduler="constant", warmup_ratio=0.0) as (config, model):
            self._train(config, model, steps, observe, None)
        spec, train = self.config.training, len(rows.train)
        plan = StepPlan.of(spec, train)
        watched = watched_rows(spec, train, len(rows.validation)).rows * (plan.evaluations - 1)
        return {
            "step_seconds": statistics.median(after - before for before, after in pairwise(moments)),
            "steps": plan.steps,
            "evaluated": (watched + len(rows.validation)) / (PASSES * spec.epochs * train),
            "loading_seconds": loading,
        }

    def _train(
        self,
        config: TrialConfig,
        model: PreTrainedModel | PeftModel,
        steps: int,
        observe: Callable[[float], bool],
        factor: Callable[[int], float] | None,
    ) -> None:
        base, rows = self._loaded()
        spec, train = config.training, rows.train
        epochs = math.ceil(steps * spec.effective_batch / len(train))
        if epochs > MOST_EPOCHS:
            raise DataError(
                f"{steps} steps of {spec.effective_batch} rows are more than {MOST_EPOCHS} times the {len(train)} "
                "training rows: take fewer steps or a smaller effective batch"
            )
        capacity = capacity_gb()
        need = Need.of(config, base, rows.longest, 1, capacity, None)
        plan = replace(StepPlan.of(spec, len(train), 1, need.limit), steps=steps)
        plan = replace(plan, warmup_steps=math.ceil(spec.warmup_ratio * steps))
        config = config.model_copy(update={"training": _changed(spec, epochs=epochs)})
        with tempfile.TemporaryDirectory() as scratch:
            watcher = _Watcher(observe, steps)
            trainer = build_trainer(config, plan, base, train, model, watcher, scratch, ProcessGroup())
            if factor is not None:
                trainer.lr_scheduler = LambdaLR(trainer.create_optimizer(), factor)
            _, ran_out = until_out_of_memory(partial(trainer.train))
        if ran_out is not None:
            raise too_large(need.demand, capacity, str(ran_out))

    @contextmanager
    def _model(self, **settings: Any) -> Iterator[tuple[TrialConfig, PreTrainedModel | PeftModel]]:
        config = self.config.model_copy(update={"training": _changed(self.config.training, **settings)})
        reason = conflict(config.training, config.model.quantisation if config.model else "none")
        if reason:
            raise UnfitError(reason)
        base, _ = self._loaded()
        with trainable(base.model, config.training, config.seed) as model:
            yield config, model
        if not config.training.leaves_base:
            self._base = None

    def _loaded(self) -> tuple[Base, StudyRows]:
        config = self.config
        if config.model is None or config.model_name is None or config.data is None:
            raise TrialError("a run of a few steps needs a model and rows")
        if METHODS[config.training.method].base == "new":
            raise UnfitError("a run of a few steps needs a model that is there: method scratch makes one in each trial")
        if self._base is None:
            key = BaseKey.of(config.model_name, config.model, config.training.method)
            check_before_loading(config, key, 1, capacity_gb())
            self.progress(f"loading {key.name}", 0.0)
            self._base = load_base(key, self.cache, self.progress)
        if self._rows is None:
            cache, base = RowCache(self.cache / "rows"), self._base
            self._rows = cache.rows(config.data, base.tokenizer, base.tokenizer_fingerprint, self.progress)
        return self._base, self._rows


class _Watcher(TrainerCallback):
    """Shows the loss of every step to an observer, and ends the training when it says so."""

    def __init__(self, observe: Callable[[float], bool], steps: int) -> None:
        self._observe, self._steps = observe, steps

    def on_log(self, *given: Any, **live: Any) -> None:
        _, state, control = given
        logs = live["logs"]
        if "loss" in logs and (self._observe(float(logs["loss"])) or state.global_step >= self._steps):
            control.should_training_stop = True


def _changed(spec: TrainingSpec, **settings: Any) -> TrainingSpec:
    return TrainingSpec.model_validate({**spec.model_dump(exclude_unset=True), **settings})
