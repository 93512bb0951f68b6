"""The solo engine: one trial at a time with transformers.Trainer and PEFT, base and rows kept between trials."""

from __future__ import annotations

import gc
import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, Trainer

from hpo_service.channel import Stopped, TrialLink
from hpo_service.domain.data_spec import DataSpec
from hpo_service.domain.model_spec import ModelSpec
from hpo_service.domain.training_spec import TrainingSpec
from hpo_service.domain.trial import ModelFacts, Outcome, OutcomeKind, Scores, TrialConfig
from hpo_service.errors import DataError, ModelError, TrialError
from hpo_service.training.adapter import trainable
from hpo_service.training.base import Base, BaseKey, describe_model, load_base, parameter_count
from hpo_service.training.checkpoint import CheckpointStore, Identity, replace_folder, save_weights
from hpo_service.training.course import Course
from hpo_service.training.evaluation import evaluate
from hpo_service.training.plan import Plan
from hpo_service.training.record import Facts, machine_facts
from hpo_service.training.rows import StudyRows, prepare_rows
from hpo_service.training.tokens import TokenRow
from hpo_service.training.trainer import build_trainer
from hpo_service.training.watch import Watch

# Seconds a model may take to come over the network, or a data set, before silence counts as a hang.
LOADING_SECONDS = 3600.0
# What decides the numbers of a run; the rest of a configuration may change between attempts.
DECISIVE = {"model", "model_name", "data", "training", "seed"}
# Tokenised data sets kept at once: those of the studies a worker moves between.
KEPT_ROWS = 4


@dataclass(frozen=True)
class Job:
    """One trial with everything it needs at hand."""

    link: TrialLink
    base: Base
    rows: StudyRows
    plan: Plan
    store: CheckpointStore

    @property
    def config(self) -> TrialConfig:
        """The trial's configuration."""
        return self.link.config


@dataclass
class SoloEngine:
    """Trains trials one after another; the base model and the tokenised rows stay loaded between them."""

    cache: Path
    clock: Callable[[], float] = time.monotonic
    _base: Base | None = None
    _rows: dict[tuple[str, str], StudyRows] = field(default_factory=dict)
    _described: dict[str, ModelFacts] = field(default_factory=dict)

    def run(self, link: TrialLink) -> Outcome:
        """Run one trial to its end, resuming from its checkpoint where one fits.

        Raises:
            ModelError, DataError: the inputs cannot be used.
            Stopped: the trial was told to stop while there was nothing to save.
        """
        began = self.clock()
        job = self._set_up(link)
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
                self._base = None
        facts: Facts = {"seconds_setup": loaded - began, "device_seconds": self.clock() - began}
        return outcome.model_copy(update={"facts": {**outcome.facts, **facts}})

    def _set_up(self, link: TrialLink) -> Job:
        config = link.config
        if config.model is None or config.model_name is None or config.data is None:
            raise TrialError(f"trial {link.trial} names no model or no data for the built-in trainer")
        base = self._load(config.model_name, config.model, config.training, link)
        rows = self._prepare(config.data, base, link)
        link.check()
        identity = Identity(base.facts.fingerprint, _digest(config), rows.fingerprint)
        store = CheckpointStore(link.folder / "checkpoint", identity)
        return Job(link, base, rows, Plan.of(config.training, len(rows.train)), store)

    def _load(self, name: str, spec: ModelSpec, training: TrainingSpec, link: TrialLink) -> Base:
        key = BaseKey.of(name, spec, training.method)
        if self._base is None or self._base.key != key:
            # One base at a time: two of them may not fit.
            self._base = None
            _release_memory()

            def progress(message: str, fraction: float) -> None:
                link.touch(activity=f"{message} ({fraction:.0%})")
                link.check()

            with link.busy(f"loading {name}", LOADING_SECONDS):
                self._base = load_base(key, self.cache, progress, wanted_later=spec.target)
        return self._base

    def _prepare(self, spec: DataSpec, base: Base, link: TrialLink) -> StudyRows:
        key = (base.tokenizer_fingerprint, spec.model_dump_json())
        if key not in self._rows:
            for oldest in list(self._rows)[: 1 - KEPT_ROWS]:
                del self._rows[oldest]
            with link.busy(f"reading {spec.source}", LOADING_SECONDS):
                self._rows[key] = prepare_rows(spec, base.tokenizer)
        _check_fit(base, self._rows[key])
        return self._rows[key]

    def _describe(self, job: Job) -> dict[str, ModelFacts]:
        self._described[job.base.key.name] = job.base.facts
        for name in job.link.describe:
            if name not in self._described:
                with job.link.busy(f"looking at {name}", LOADING_SECONDS):
                    self._described[name] = describe_model(name, job.base.key.trust_remote_code)
        return {name: self._described[name] for name in {job.base.key.name, *job.link.describe}}

    def _train(self, job: Job, model: PreTrainedModel | PeftModel) -> Outcome:
        link, plan = job.link, job.plan
        checkpoint, refused = job.store.newest()
        watch = Watch(
            link=link,
            spec=link.config.training,
            plan=plan,
            course=checkpoint.course if checkpoint else Course(),
            store=job.store,
            score=lambda: _score(job, model, job.rows.validation),
            clock=self.clock,
        )
        models = self._describe(job)
        with tempfile.TemporaryDirectory() as scratch:
            trainer = build_trainer(job.config, plan, job.base, job.rows.train, model, watch, scratch)
            watch.scaler = lambda: trainer.accelerator.scaler
            link.started(checkpoint.step / plan.steps if checkpoint else 0.0, models)
            trainer.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
        facts = _facts(job, model, watch, trainer)
        facts["resumed_at_step"] = checkpoint.step if checkpoint else 0
        if refused:
            facts["checkpoint_refused"] = refused
        return self._conclude(job, model, watch, facts)

    def _conclude(self, job: Job, model: PreTrainedModel | PeftModel, watch: Watch, facts: Facts) -> Outcome:
        link, ending = job.link, watch.ending
        if ending is not None and ending.kind is None:
            return link.stopped(watch.course.value, facts, watch.checkpoint_warning)
        if ending is not None and ending.kind is OutcomeKind.PRUNED:
            return Outcome(kind=OutcomeKind.PRUNED, reason=ending.reason, value=watch.course.value, facts=facts)
        # A run resumed after its last evaluation has not scored the rows in this process.
        scores = watch.scores or _score(job, model, job.rows.validation)
        return Outcome(
            kind=OutcomeKind.COMPLETE,
            reason=ending.reason if ending is not None else "trained to the end",
            value=scores.mean,
            validation=scores,
            test=_score(job, model, job.rows.test) if link.config.score_test else None,
            adapter=_keep(job, model) if link.config.keep_adapter else None,
            facts=facts,
        )


def _check_fit(base: Base, rows: StudyRows) -> None:
    """Refuse rows that would read past the model's tables: on a GPU that ends the process."""
    config = base.model.config.get_text_config()
    if rows.largest_id >= config.vocab_size:
        raise ModelError(f"model {base.key.name} knows no token {rows.largest_id}: its tokenizer belongs to another")
    positions = getattr(config, "max_position_embeddings", None)
    if positions and rows.longest > positions:
        raise DataError(
            f"rows of up to {rows.longest} tokens do not fit the {positions} positions of model {base.key.name}: "
            f"set data.max_length to {positions} or less"
        )


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


def _facts(job: Job, model: PreTrainedModel | PeftModel, watch: Watch, trainer: Trainer) -> Facts:
    course, seconds = watch.course, watch.seconds
    facts: Facts = {
        "seconds_train": seconds.train,
        "seconds_evaluate": seconds.evaluate,
        "seconds_wait": seconds.wait,
        "seconds_checkpoint": seconds.checkpoint,
        "tokens": int(trainer.state.num_input_tokens_seen),
        "steps": trainer.state.global_step,
        "steps_planned": job.plan.steps,
        "micro_batch": job.plan.micro_batch,
        "accumulation": job.plan.accumulation,
        "evaluations": course.evaluations,
        "seed": job.config.seed,
        "trainable_parameters": parameter_count(model, trainable=True),
        "base_fingerprint": job.base.facts.fingerprint,
        "data_fingerprint": job.rows.fingerprint,
        "compute": str(job.base.key.compute).removeprefix("torch."),
        **machine_facts(),
        **job.rows.facts,
    }
    if course.best is not None:
        facts["best_value"] = course.best
    if watch.checkpoint_warning:
        facts["checkpoint_warning"] = watch.checkpoint_warning
    return facts


def _digest(config: TrialConfig) -> str:
    return hashlib.sha256(config.model_dump_json(include=DECISIVE).encode()).hexdigest()


def _release_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
