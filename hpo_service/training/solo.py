"""The solo engine: one trial at a time with transformers.Trainer and PEFT on a base that stays loaded."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from peft import PeftModel
from transformers import PreTrainedModel

from hpo_service.channel import Stopped, TrialLink
from hpo_service.domain.trial import Outcome, Scores
from hpo_service.training.adapter import trainable
from hpo_service.training.base import parameter_count
from hpo_service.training.callback import WatchCallback
from hpo_service.training.checkpoint import replace_folder, save_weights
from hpo_service.training.course import Course
from hpo_service.training.ending import conclude, run_facts
from hpo_service.training.evaluation import evaluate
from hpo_service.training.job import Job
from hpo_service.training.record import Facts
from hpo_service.training.residents import Residents
from hpo_service.training.tokens import TokenRow
from hpo_service.training.trainer import build_trainer
from hpo_service.training.watch import Watch


@dataclass
class SoloEngine:
    """Trains trials one after another: every method, and the numbers that other engines are measured by."""

    residents: Residents
    clock: Callable[[], float] = time.monotonic

    def run(self, link: TrialLink) -> Outcome:
        """Run one trial to its end, resuming from its checkpoint where one fits.

        Raises:
            ModelError, DataError: the inputs cannot be used.
            Stopped: the trial was told to stop while there was nothing to save.
        """
        began = self.clock()
        job = Job.of(link, self.residents, "solo")
        loaded = self.clock()
        spec = link.config.training
        clean = False
        try:
            with trainable(job.base.model, spec.hyperparameters(), link.config.seed) as model:
                outcome = self._train(job, model)
            clean = True
        except Stopped:
            clean = True
            raise
        finally:
            # Weights that were trained themselves, and a model that a strange error left somehow, serve no other trial.
            if spec.method == "full" or not clean:
                self.residents.release()
        facts: Facts = {"seconds_setup": loaded - began, "device_seconds": self.clock() - began}
        return outcome.model_copy(update={"facts": {**outcome.facts, **facts}})

    def _train(self, job: Job, model: PreTrainedModel | PeftModel) -> Outcome:
        link, plan = job.link, job.plan
        checkpoint, refused = job.store.newest()
        watch = Watch(
            link=link,
            spec=link.config.training,
            plan=plan,
            course=checkpoint.course if checkpoint else Course(),
            score=lambda: _score(job, model, job.rows.validation),
            save=lambda: None,
            clock=self.clock,
        )
        callback = WatchCallback(watch, job.store, self.clock)
        models = self.residents.describe(link, job.base)
        with tempfile.TemporaryDirectory() as scratch:
            trainer = build_trainer(job.config, plan, job.base, job.rows.train, model, callback, scratch)
            callback.scaler = lambda: trainer.accelerator.scaler
            link.started(checkpoint.step / plan.steps if checkpoint else 0.0, models)
            trainer.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
        facts = run_facts(
            job, watch, checkpoint.step if checkpoint else 0, refused, parameter_count(model, trainable=True)
        )
        return conclude(job, watch, facts, lambda rows: _score(job, model, rows), lambda: _keep(job, model))


def _score(job: Job, model: PreTrainedModel | PeftModel, rows: list[TokenRow]) -> Scores:
    # The adapters sit inside the base's modules; the Trainer's wrapper would copy all logits to float32.
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(inner, PreTrainedModel)

    def alive() -> None:
        job.link.touch()
        job.link.check_unless_saving()

    return evaluate(inner, rows, job.base.padding, compute=job.base.key.compute, touch=alive)


def _keep(job: Job, model: PreTrainedModel | PeftModel) -> str:
    target = job.link.folder / "adapter"
    with job.link.busy("saving the adapter"):
        replace_folder(target, lambda folder: save_weights(model, folder))
    return str(target)
