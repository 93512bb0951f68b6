"""From a row of the queue to what a worker receives: the complete configuration of one trial."""

from __future__ import annotations

from collections.abc import Iterable

from hpo_service.domain.decide.measured_memory import measured_correction
from hpo_service.domain.decide.parallel import parallel
from hpo_service.domain.memory.fit import memory_case
from hpo_service.domain.study.protocol import StageRule
from hpo_service.domain.study.sections.evaluation import EvaluationSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.assignment import Assignment, Lease
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.service.trials.identity import identity_of
from hpo_service.storage.studies import StageRow
from hpo_service.storage.trial.trials import TrialRow


def assignment(
    spec: StudySpec,
    stage: StageRow,
    trial: TrialRow,
    measured: Iterable[RunFacts] = (),
    workers: int = 1,
) -> Assignment:
    """Resolve a claimed trial into an assignment; the trial must be bound to an Optuna trial.

    Args:
        spec: of the study.
        stage: the trial's.
        trial: as it was claimed.
        measured: facts of trials that have ended; of those that tell of the same model and method, memory is learned.
        workers: that are there to take trials.
    """
    if trial.number is None:
        raise ValueError(f"trial {trial.id} of {stage.optuna_name} has no number: it was not bound")
    together = parallel(spec, stage.rule, stage.trials, workers)
    return Assignment(
        lease=Lease(trial_id=trial.id, token=trial.token),
        study=spec.name,
        stage=stage.stage,
        number=trial.number,
        attempt=trial.attempt,
        config=_corrected(trial_config(spec, stage.rule, trial), measured),
        lease_seconds=spec.execution.lease_seconds,
        hang_seconds=spec.execution.hang_seconds,
        slots=together.slots,
        measure=together.measured,
        gpus=spec.execution.gpus_per_trial,
        identity=identity_of(trial),
        failures=trial.errors + trial.losses,
        last=trial.errors + 1 >= spec.execution.max_attempts or trial.losses + 1 >= spec.execution.max_losses,
    )


def _corrected(config: TrialConfig, measured: Iterable[RunFacts]) -> TrialConfig:
    alike = memory_case(config.model_name, config.training.method)
    correction = measured_correction(facts for facts in measured if facts.memory.case == alike)
    return config.model_copy(update={"memory_correction": correction})


def _evaluation(spec: StudySpec, stage: StageRule, trial: TrialRow) -> EvaluationSpec | None:
    """What a trial is asked: what its study selects on, and of test rows its stage's metrics; None where nothing is.

    What is selected on is measured on test rows wherever those are scored.
    """
    asked = spec.evaluation
    metrics = asked.metrics if stage.name in asked.stages else []
    if asked.select is not None and trial.score_test:
        metrics = list(dict.fromkeys([asked.select, *metrics]))
    if not metrics and asked.select is None:
        return None
    return asked.model_copy(update={"metrics": metrics})


def trial_config(spec: StudySpec, stage: StageRule, trial: TrialRow) -> TrialConfig:
    """Apply the trial's values to the study's training section, and choose the model of its stage."""
    training = spec.training
    if spec.model is not None:
        watched = spec.training.model_dump(exclude_unset=True)
        resolved = spec.training.hyperparameters().with_values(trial.parameters).model_dump(exclude_unset=True)
        watched.pop("lora_alpha", None)
        watched.pop("lora_alpha_multiplier", None)
        training = TrainingSpec.model_validate({**watched, **resolved})
    return TrialConfig(
        study=spec.name,
        stage=stage.name,
        parameters=trial.parameters,
        seed=trial.seed,
        objective=spec.objective,
        model=spec.model,
        model_name=stage.model_of(spec),
        data=spec.data,
        training=training,
        score_test=trial.score_test,
        keep_adapter=trial.keep_adapter or (spec.objective is None and spec.execution.keep_adapters > 0),
        evaluation=_evaluation(spec, stage, trial),
        tracking=spec.tracking if spec.tracking.trackers else None,
        sharding=spec.execution.sharding,
        share=trial.share,
    )
