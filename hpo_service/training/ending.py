"""How a run ends: what its watch has seen, the last scores, and the facts that stay behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpo_service.domain.memory.fit import memory_case
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.scores import Scores
from hpo_service.training.examination import Answer, examine
from hpo_service.training.job import Job
from hpo_service.training.record import Facts, machine_facts
from hpo_service.training.tokens import TokenRow
from hpo_service.training.watch import Watch

Score = Callable[[Sequence[TokenRow]], Scores]


def conclude(
    job: Job, watch: Watch, facts: Facts, score: Score, keep: Callable[[], str], answer: Answer | None = None
) -> Outcome:
    """The outcome of a run that was trained as far as its watch let it.

    Args:
        job: the trial.
        watch: what it saw, and why it ended the run early, if it did.
        facts: what stays behind.
        score: scores rows with the model as it is now.
        keep: saves the trained weights and returns their folder.
        answer: continues prompts with the model as it is now, where the engine can.
    """
    link, ending = job.link, watch.ending
    if ending is not None and ending.kind is None:
        return link.stopped(watch.course.value, facts, watch.checkpoint_warning)
    if ending is not None and ending.kind is OutcomeKind.PRUNED:
        return Outcome(kind=OutcomeKind.PRUNED, reason=ending.reason, value=watch.course.value, facts=facts)
    # A run resumed after its last evaluation has not scored the rows in this process.
    scores = watch.scores or score(job.rows.validation)
    test = score(job.rows.test) if link.config.score_test else None
    adapter = keep() if link.config.keep_adapter else None
    return Outcome(
        kind=OutcomeKind.COMPLETE,
        reason=ending.reason if ending is not None else "trained to the end",
        value=scores.mean,
        validation=scores,
        test=test,
        adapter=adapter,
        facts={**facts, **examine(job, answer)},
    )


def run_facts(job: Job, watch: Watch, resumed_at: int, refused: str, trainable: int) -> Facts:
    """What stays behind of a run.

    Args:
        job: the trial.
        watch: what it saw.
        resumed_at: the step it was resumed at, 0 if it was not.
        refused: why a checkpoint that was there was not taken, empty if it was.
        trainable: number of weights trained.
    """
    course, seconds = watch.course, watch.seconds
    facts: Facts = {
        "seconds_train": seconds.train,
        "seconds_evaluate": seconds.evaluate,
        "seconds_wait": seconds.wait,
        "seconds_checkpoint": seconds.checkpoint,
        "tokens": watch.tokens,
        "steps": watch.steps,
        "steps_planned": job.plan.steps,
        "micro_batch": job.plan.micro_batch,
        "accumulation": job.plan.accumulation,
        "ranks": job.plan.ranks,
        "evaluations": course.evaluations,
        "seed": job.config.seed,
        "trainable_parameters": trainable,
        "base_fingerprint": job.base.facts.fingerprint,
        "data_fingerprint": job.rows.fingerprint,
        "compute": str(job.base.key.compute).removeprefix("torch."),
        "resumed_at_step": resumed_at,
        **machine_facts(),
        **job.strain.facts(job.need, memory_case(job.base.key.name, job.config.training.method)),
        **job.rows.facts,
    }
    if course.best is not None:
        facts["best_value"] = course.best
    if watch.checkpoint_warning:
        facts["checkpoint_warning"] = watch.checkpoint_warning
    if refused:
        facts["checkpoint_refused"] = refused
    return facts
