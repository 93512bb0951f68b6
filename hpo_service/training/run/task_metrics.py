"""Task metrics of a trained model: it answers rows, and metrics say how well."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from hpo_service.domain.study.sections.evaluation import METRIC_FACT, EvaluationSpec
from hpo_service.domain.trial.facts import RunFacts, TimingFacts, TrainingFacts, WarningFacts
from hpo_service.errors import TrialError
from hpo_service.training.data.tokens import TokenRow
from hpo_service.training.device.faults import is_fatal, is_out_of_memory
from hpo_service.training.run.job import Job
from hpo_service.training.scoring.evaluation import inner_model
from hpo_service.training.scoring.generation import Question, end_ids, generate, question_of
from hpo_service.training.scoring.metrics import Sample, measure
from hpo_service.wire.child import Stopped

Answer = Callable[[list[list[int]]], list[list[int]]]
"""Continues prompts with the model as it is now, all of them token ids."""


@dataclass(frozen=True)
class Answered:
    """What answers were worth: on test rows a fact for each metric, and of the one selected on what each row gave."""

    facts: RunFacts = field(default_factory=RunFacts)
    rows: list[float] | None = None


@dataclass(frozen=True)
class Selected:
    """The metric that a study selects on.

    Attributes:
        value: of the validation rows that were answered.
        seconds: that it took.
        rows: how many those were.
        warning: what went wrong beside, empty where nothing did.
    """

    value: float
    seconds: float
    rows: int
    warning: str

    def beside(self, tested: RunFacts, loss: float) -> RunFacts:
        """Return what is kept of it, together with what is known of test rows.

        Args:
            tested: facts of the answers to test rows.
            loss: mean NLL of the validation rows in nats per token, which is not the trial's value.
        """
        warnings = [each for each in (self.warning, tested.warnings.metrics) if each]
        return RunFacts(
            timing=TimingFacts(metrics=self.seconds + (tested.timing.metrics or 0.0)),
            training=TrainingFacts(validation_loss=loss, metric_rows=tested.training.metric_rows or self.rows),
            warnings=WarningFacts(metrics="; ".join(warnings) or None),
        )


def measure_selected(job: Job, answer: Answer | None, clock: Callable[[], float] = time.monotonic) -> Selected | None:
    """Return the metric that the study selects on, of validation rows, with the seconds that it took.

    Returns:
        None where the study selects on the loss.

    Raises:
        TrialError: it cannot be had. A study that selects on it can do nothing with the trial.
        Stopped: the trial was told to stop where there is nothing to save.
    """
    spec = job.config.evaluation
    if spec is None or spec.select is None:
        return None
    began = clock()
    samples = _answer_questions(job, spec, answer, job.rows.validation, "validation")
    warnings = _write(samples, job.link.folder.validation_answers)
    measured = measure(spec.select, samples)
    return Selected(measured.value, clock() - began, len(samples), "; ".join(warnings))


def measure_task_metrics(job: Job, answer: Answer | None, clock: Callable[[], float] = time.monotonic) -> Answered:
    """Measure the metrics that the trial asks for: a fact for each, and a warning for each that could not be had.

    A trial is judged by what its study selects on; nothing that goes wrong here costs it that, short of a lost device.

    Args:
        job: the trial.
        answer: writes answers, or None for an engine that does not.
        clock: seconds, monotonic.
    """
    spec = job.config.evaluation
    if spec is None or not spec.metrics:
        return Answered()
    began = clock()
    try:
        samples = _answer_questions(job, spec, answer, job.rows.test, "test")
    except Stopped:
        raise
    # Generation runs code of the model's own, which raises what it likes.
    except Exception as error:
        if is_fatal(error) and not is_out_of_memory(error):
            raise
        reason = f"no answers could be generated: {' '.join(str(error).split())}"
        return Answered(RunFacts(warnings=WarningFacts(metrics=reason)))
    warnings = _write(samples, job.link.folder.answers)
    measured: dict[str, object] = {}
    rows: list[float] | None = None
    for name in spec.metrics:
        try:
            found = measure(name, samples)
            measured[f"{METRIC_FACT}{name.removeprefix('python:')}"] = found.value
            rows = found.rows if name == spec.select else rows
        except TrialError as error:
            warnings.append(str(error))
        job.link.touch()
    facts = RunFacts(
        timing=TimingFacts(metrics=clock() - began),
        training=TrainingFacts(metric_rows=len(samples)),
        warnings=WarningFacts(metrics="; ".join(warnings) or None),
        extra=measured,
    )
    return Answered(facts, rows)


def write_answers(job: Job, model: PreTrainedModel | PeftModel, prompts: list[list[int]]) -> list[list[int]]:
    """Continue prompts with a model whose adapters, if any, are on.

    Raises:
        Stopped: the trial was told to stop where there is nothing to save.
    """
    inner = inner_model(model)
    assert job.config.evaluation is not None

    def alive() -> None:
        job.link.touch()
        job.link.check_unless_saving()

    return generate(
        inner,
        prompts,
        padding=job.base.padding,
        ends=end_ids(inner, job.base.tokenizer),
        max_new_tokens=job.config.evaluation.max_new_tokens,
        compute=job.base.key.compute,
        touch=alive,
    )


def evenly_spaced(rows: Sequence[TokenRow], count: int) -> list[TokenRow]:
    """Take so many rows at equal distances: the same ones for every trial, whatever the file is sorted by."""
    count = min(count, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]


def _answer_questions(
    job: Job, spec: EvaluationSpec, answer: Answer | None, rows: Sequence[TokenRow], part: str
) -> list[Sample]:
    if answer is None:
        raise TrialError("the engine that trained this trial does not generate")
    questions = [question_of(row) for row in evenly_spaced(rows, spec.examples)]
    if all(len(question.prompt) < 2 for question in questions):
        raise TrialError("rows of plain text have no prompts to answer")
    job.link.touch(activity=f"answering {len(questions)} {part} rows")
    return _as_text(job, questions, answer([question.prompt for question in questions]))


def _as_text(job: Job, questions: Sequence[Question], answers: Sequence[list[int]]) -> list[Sample]:
    def text(rows: Sequence[list[int]]) -> list[str]:
        return [str(job.base.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in rows]

    prompts = text([question.prompt for question in questions])
    references = text([question.reference for question in questions])
    return [Sample(*texts) for texts in zip(prompts, references, text(answers), strict=True)]


def _write(samples: Sequence[Sample], path: Path) -> list[str]:
    """Keep the answers for people to read; return why they could not be kept, if so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for sample in samples:
                file.write(json.dumps(sample.__dict__, ensure_ascii=False) + "\n")
    except OSError as error:
        return [f"the answers could not be written: {error}"]
    return []
