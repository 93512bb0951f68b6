"""How a run ends: what its monitor has seen, the last scores, and the facts that stay behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from safetensors import SafetensorError

from hpo_service.domain.decide.goals.costs import adapter_mb
from hpo_service.domain.memory.fit import memory_case
from hpo_service.domain.study.methods import STARTS
from hpo_service.domain.trial.facts import (
    EnvironmentFacts,
    FingerprintFacts,
    RunFacts,
    TimingFacts,
    TrainingFacts,
    WarningFacts,
)
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.scores import Scores
from hpo_service.errors import FileStoreError
from hpo_service.training.data.tokens import TokenRow
from hpo_service.training.device.environment import device_name, versions
from hpo_service.training.run.job import Job
from hpo_service.training.run.monitor import Monitor
from hpo_service.training.run.task_metrics import Answer, measure_selected, measure_task_metrics
from hpo_service.wire.child import TrialLink

Score = Callable[[Sequence[TokenRow]], Scores]


def conclude(
    job: Job,
    monitor: Monitor,
    facts: RunFacts,
    score: Score,
    save_adapter: Callable[[], str],
    answer: Answer | None = None,
) -> Outcome:
    """The outcome of a run that was trained as far as its monitor let it.

    Args:
        job: the trial.
        monitor: what it saw, and why it ended the run early, if it did.
        facts: what stays behind.
        score: scores rows with the model as it is now.
        save_adapter: saves the trained weights and returns their folder.
        answer: continues prompts with the model as it is now, where the engine can.
    """
    link, early_end = job.link, monitor.early_end
    if early_end is not None and early_end.kind is None:
        return link.stopped(monitor.history.value, facts, monitor.checkpoint_warning)
    if early_end is not None and early_end.kind is OutcomeKind.PRUNED:
        return Outcome(kind=OutcomeKind.PRUNED, reason=early_end.reason, value=monitor.history.value, facts=facts)
    # A run resumed after its last evaluation has not scored the rows in this process; one that patience ended may have
    # scored a part of them only.
    scores = monitor.scores or score(job.rows.validation)
    selected = measure_selected(job, answer)
    test = score(job.rows.test) if link.config.score_test else None
    adapter, lost = _saved(save_adapter, link) if link.config.keep_adapter else (None, None)
    tested = measure_task_metrics(job, answer)
    facts |= RunFacts(warnings=WarningFacts(adapter=lost)) | tested.facts
    if selected is not None:
        facts |= selected.beside(tested.facts, scores.mean)
    return Outcome(
        kind=OutcomeKind.COMPLETE,
        reason=early_end.reason if early_end is not None else "trained to the end",
        value=scores.mean if selected is None else selected.value,
        validation=scores,
        test=test,
        test_answers=None if tested.rows is None else Scores.of_answers(tested.rows),
        adapter=adapter,
        facts=facts,
    )


def _saved(save_adapter: Callable[[], str], link: TrialLink) -> tuple[str | None, str | None]:
    """Where the adapter was saved, or why it could not be: what a full disk costs is the adapter, not the trial."""
    try:
        return save_adapter(), None
    except (OSError, FileStoreError, SafetensorError) as error:
        reason = f"the adapter could not be saved: {' '.join(str(error).split())}"
    link.checkpoint_lost(reason)
    return None, reason


def run_facts(
    job: Job, monitor: Monitor, resumed_at: int, refused: str, trainable: int, *, alone: bool = True
) -> RunFacts:
    """What stays behind of a run.

    Args:
        job: the trial.
        monitor: what it saw.
        resumed_at: the step it was resumed at, 0 if it was not.
        refused: why a checkpoint that was there was not taken, empty if it was.
        trainable: number of weights trained.
        alone: whether the process's peak of memory is this trial's; the peak of several judges no estimate for one.
    """
    history, seconds, plan = monitor.history, monitor.seconds, job.plan
    case = memory_case(job.base.key.name, job.config.training.method) if alone else None
    return RunFacts(
        timing=TimingFacts(
            train=seconds.train, evaluate=seconds.evaluate, wait=seconds.wait, checkpoint=seconds.checkpoint
        ),
        training=TrainingFacts(
            tokens=monitor.tokens,
            steps=monitor.steps,
            steps_planned=plan.steps,
            micro_batch=plan.micro_batch,
            accumulation=plan.accumulation,
            ranks=plan.ranks,
            evaluations=history.evaluations,
            seed=job.config.seed,
            trainable_parameters=trainable,
            adapter_mb=_adapter_mb(job, trainable),
            resumed_at_step=resumed_at,
            best_value=history.best,
            rows=len(job.train),
            watched=len(job.watched),
            watched_reason=job.watched_reason,
        ),
        fingerprints=FingerprintFacts(base=job.base.facts.fingerprint, data=job.rows.fingerprint),
        environment=EnvironmentFacts(
            compute=str(job.base.key.compute).removeprefix("torch."), device=device_name(), versions=versions()
        ),
        memory=job.pressure.facts(job.need, case),
        data=job.rows.facts,
        warnings=WarningFacts(checkpoint=monitor.checkpoint_warning or None, checkpoint_refused=refused or None),
    )


def _adapter_mb(job: Job, trainable: int) -> float:
    hyper = job.config.training
    moves_base = hyper.reads("init_lora_weights") and STARTS[hyper.init_lora_weights].moves_base
    return adapter_mb(trainable, moves_base=moves_base)
