"""The solo engine: one trial at a time with transformers.Trainer and PEFT on a base that stays loaded."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hpo_service.domain.trial.facts import MemoryFacts, RunFacts, TimingFacts
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.scores import Scores
from hpo_service.errors import DoesNotFitError
from hpo_service.filestore.attempts import keep_adapter
from hpo_service.training.data.tokens import TokenRow
from hpo_service.training.device.faults import is_out_of_memory
from hpo_service.training.distributed.process_group import ProcessGroup
from hpo_service.training.distributed.sharding import share_held
from hpo_service.training.engines.callback import MonitorCallback
from hpo_service.training.engines.data_parallel import DONE, DistributedScoring, FollowerCallback, LeaderCallback
from hpo_service.training.engines.trainer import build_trainer
from hpo_service.training.models.adapter import trainable
from hpo_service.training.models.base import parameter_count
from hpo_service.training.models.tokenizer import with_chat_template
from hpo_service.training.run.checkpoint import Checkpoint, replace_folder
from hpo_service.training.run.device_memory import capacity_gb, release_memory
from hpo_service.training.run.history import SCALER_TRIES, History
from hpo_service.training.run.job import Job
from hpo_service.training.run.loaded_models import LoadedModels
from hpo_service.training.run.monitor import Monitor
from hpo_service.training.run.oom import LastStep, MemoryPressure, until_out_of_memory
from hpo_service.training.run.result import conclude, run_facts
from hpo_service.training.run.saved_adapter import SaveWeights, weights_saver
from hpo_service.training.run.task_metrics import write_answers
from hpo_service.training.scoring.evaluation import affordable_tokens, evaluate, inner_model
from hpo_service.training.tracking.trackers import Trackers, tracked
from hpo_service.wire.child import Stopped, TrialLink


@dataclass
class SoloEngine:
    """Trains trials one after another: every method, and the numbers that other engines are measured by."""

    loaded: LoadedModels
    clock: Callable[[], float] = time.monotonic
    _trackers: Trackers = field(default_factory=Trackers)

    @property
    def ranks(self) -> ProcessGroup:
        """The processes that train every trial together."""
        return self.loaded.ranks

    def run(self, link: TrialLink) -> Outcome:
        """Run one trial to its end, resuming from its checkpoint where one fits.

        Where memory runs out it goes on with a smaller micro-batch; what does not fit at all is infeasible.

        Raises:
            ModelError, DataError: the inputs cannot be used.
            Stopped: the trial was told to stop while there was nothing to save.
        """
        if not self.ranks.leads:
            return self._run(link)
        with tracked(link) as self._trackers:
            return self._trackers.end(self._run(link))

    def _run(self, link: TrialLink) -> Outcome:
        began = self.clock()
        if self.ranks.leads:
            self.ranks.announce(link.admit)
        pressure = MemoryPressure()
        try:
            outcome = self._persist(link, pressure)
        except DoesNotFitError as error:
            outcome = pressure.infeasible(error)
        spent = (self.clock() - began) * self.ranks.size
        facts = outcome.facts | RunFacts(timing=TimingFacts(setup=pressure.seconds_setup, device=spent))
        return outcome.model_copy(update={"facts": facts, "restart": pressure.suffered})

    def _persist(self, link: TrialLink, pressure: MemoryPressure) -> Outcome:
        """Begin again with half the micro-batch, from where the last beginning got to, while memory runs out."""
        while True:
            began = self.clock()
            with self.ranks.failing_together():
                pressure.capacity_gb = self.ranks.minimum(capacity_gb())
                job = Job.of(link, self.loaded, "solo", self.ranks.size, pressure)
            pressure.seconds_setup += self.clock() - began
            outcome, error = until_out_of_memory(partial(self._begin, job))
            if outcome is not None:
                return outcome
            pressure.halve(job.plan.micro_batch, job.need, error)
            # a base that was trained itself is loaded again, and two may not fit
            del job
            release_memory()

    def _begin(self, job: Job) -> Outcome:
        spec, clean = job.config.training, False
        try:
            with (
                self.ranks.failing_together(),
                trainable(job.base.model, spec, job.config.seed) as model,
                weights_saver(model, spec, _tokenizer(job), wanted=job.config.keep_adapter) as save,
            ):
                outcome = self._train(job, model, save) if self.ranks.leads else self._follow(job, model)
            clean = True
        except Exception as error:
            clean = isinstance(error, Stopped) or is_out_of_memory(error)
            raise
        finally:
            # A base that was changed, or that a strange error left somehow, serves no other trial.
            if not spec.leaves_base or not clean:
                self.loaded.release()
        return outcome

    def _train(self, job: Job, model: PreTrainedModel | PeftModel, save: SaveWeights) -> Outcome:
        link, plan, pressure = job.link, job.plan, job.pressure
        with link.busy("looking at the checkpoint"):
            checkpoint, refused = job.store.newest()
        self._agree(job, checkpoint)
        score = self._scoring(job, model)
        monitor = Monitor(
            link=link,
            spec=link.config.training,
            plan=plan,
            history=checkpoint.history if checkpoint else History(),
            score=lambda whole: score(job.rows.validation if whole else job.watched),
            watched=job.watched_rows,
            save=lambda: None,
            clock=self.clock,
            trackers=self._trackers,
            seconds=pressure.seconds,
            bad_norms=SCALER_TRIES if job.base.key.compute == torch.float16 else 1,
        )
        callback = MonitorCallback(monitor, job.store, self.clock)
        models = self.loaded.describe(link, job.base)
        with tempfile.TemporaryDirectory() as scratch:
            trainer = build_trainer(job.config, plan, job.base, job.train, model, callback, scratch, self.ranks)
            if self.ranks.size > 1:
                trainer.add_callback(LeaderCallback(self.ranks, link.config.seed))
            callback.scaler = lambda: trainer.accelerator.scaler
            last = LastStep()
            trainer.add_callback(last)
            if pressure.begins_at(checkpoint.step if checkpoint else 0):
                link.started(checkpoint.step / plan.steps if checkpoint else 0.0, models)
            folder = str(checkpoint.folder) if checkpoint else None
            _, ran_out = until_out_of_memory(partial(trainer.train, resume_from_checkpoint=folder))
        if ran_out is not None:
            last.save(job.store, monitor.history)
            raise ran_out
        facts = run_facts(job, monitor, pressure.resumed_at or 0, refused, parameter_count(model, trainable=True))
        if job.base.key.sharded:
            facts |= RunFacts(memory=MemoryFacts(base_share_held=share_held(job.base.model)))
        facts |= RunFacts(data=trainer.batches.facts())
        save_adapter, answer = partial(_save_adapter, job, save), partial(write_answers, job, model)
        outcome = conclude(job, monitor, facts, score, save_adapter, answer)
        if self.ranks.size > 1:
            self.ranks.exchange({"do": DONE})
        return outcome

    def _follow(self, job: Job, model: PreTrainedModel | PeftModel) -> Outcome:
        """As a rank that does not lead, train this share; what came of it is rank 0's to tell."""
        checkpoint, _ = job.store.newest()
        self._agree(job, checkpoint)
        scoring = self._scoring(job, model)
        callback = FollowerCallback(self.ranks, job.config.seed, scoring.follow)
        with tempfile.TemporaryDirectory() as scratch:
            trainer = build_trainer(job.config, job.plan, job.base, job.train, model, callback, scratch, self.ranks)
            trainer.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
        reason = scoring.follow()
        return Outcome(kind=OutcomeKind.COMPLETE, reason=reason)

    def _agree(self, job: Job, checkpoint: Checkpoint | None) -> None:
        self.ranks.agree(
            base=job.base.facts.fingerprint,
            rows=job.rows.fingerprint,
            checkpoint=checkpoint.folder.name if checkpoint else "",
        )

    def _scoring(self, job: Job, model: PreTrainedModel | PeftModel) -> DistributedScoring:
        return DistributedScoring(self.ranks, job, partial(_score, job, model, self.ranks))


def _score(job: Job, model: PreTrainedModel | PeftModel, ranks: ProcessGroup, rows: Sequence[TokenRow]) -> Scores:
    inner, compute, touch = inner_model(model), job.base.key.compute, job.link.touch
    if job.base.key.sharded:
        # all ranks make as many passes, and nobody leaves between two
        batch_rows = max(1, affordable_tokens(inner) // job.rows.longest)
        with ranks.in_collective():
            return evaluate(inner, rows, job.base.padding, compute=compute, batch_rows=batch_rows, touch=touch)

    def alive() -> None:
        touch()
        job.link.check_unless_saving()

    def within(tokens: int) -> Scores:
        return evaluate(inner, rows, job.base.padding, compute=compute, batch_tokens=tokens, touch=alive)

    return job.pressure.score(within, affordable_tokens(inner), job.need)


def _tokenizer(job: Job) -> PreTrainedTokenizerBase:
    """What is kept beside a whole model, so that it is asked as it was trained."""
    return with_chat_template(job.base.tokenizer, job.config.data.chat_template if job.config.data else None)


def _save_adapter(job: Job, save: SaveWeights) -> str:
    target = job.link.folder.adapter
    with job.link.busy("saving the adapter"):
        replace_folder(target, save)
    return keep_adapter(job.link)
