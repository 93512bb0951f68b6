"""The recipe: the configuration that a study recommends, complete, as a run anywhere needs it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version

from hpo_service.domain.memory.micro_batches import micro_batch
from hpo_service.domain.study.methods import held_in
from hpo_service.domain.study.protocol import STAGES
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.errors import ConflictError, UsageError
from hpo_service.service.studies.findings.evidence import Evidence
from hpo_service.service.studies.snapshot import StudySnapshot, TrialView


@dataclass(frozen=True)
class Recipe:
    """The recommended configuration with what it was measured on.

    Attributes:
        study: its name.
        trial: the run that is handed over, as `stage #number`.
        label: `winner 1`, ..., or `default`.
        verdict: what may be said about the winner, in words.
        base: the model that the run was trained on, as the study names it.
        model: how models are held.
        data: the rows.
        training: every hyper-parameter, with the epochs that were asked for.
        searched_epochs: passes over the rows that the study's runs made.
        seed: of the run.
        micro_batch: rows of a forward pass.
        accumulation: forward passes of a step, all devices together.
        compute: type of matrix products of the run, as torch names it; empty where it is not known.
        versions: what the run was made with, in words.
        test: mean test value of the recommended configuration, where it was scored.
    """

    study: str
    trial: str
    label: str
    verdict: str
    base: str
    model: ModelSpec
    data: DataSpec
    training: TrainingSpec
    searched_epochs: int
    seed: int
    micro_batch: int
    accumulation: int
    compute: str
    versions: str
    test: float | None = None

    @property
    def held(self) -> str:
        """How the base's weights are held: none, nf4 or int8."""
        return held_in(self.training.method, self.model.quantisation)

    @property
    def dtype(self) -> str:
        """Type of matrix products: the study's, else that of the run."""
        if self.model.dtype != "auto":
            return self.model.dtype
        return self.compute if self.compute in ("bfloat16", "float16", "float32") else "bfloat16"

    @property
    def revision(self) -> str | None:
        """Revision of the base on the hub; None is the newest."""
        return self.model.revision_of(self.base)

    def steps(self, rows: int) -> int:
        """Optimizer steps of a run over so many rows; the last, smaller batch of an epoch counts."""
        return self.training.epochs * math.ceil(rows / self.training.effective_batch)

    def warmup_steps(self, rows: int) -> int:
        """Steps of warming up; a run is never all warm-up."""
        steps = self.steps(rows)
        return min(math.ceil(self.training.warmup_ratio * steps), max(0, steps - 1))

    def header(self) -> list[str]:
        """Say where a file of this recipe is from, a line each."""
        return [
            f"Configuration that study {self.study} recommends: {self.label}, run {self.trial}, seed {self.seed}.",
            f"Verdict: {self.verdict}",
            f"Written by hpo-service {version('hpo-service')}; the run was made with: {self.versions or 'unknown'}",
        ]


def recipe_of(snapshot: StudySnapshot, evidence: Evidence, epochs: int | None = None) -> Recipe:
    """Resolve what a study recommends into a recipe.

    Args:
        snapshot: the study.
        evidence: what was found in it.
        epochs: passes over the rows; left out, those of the study.

    Raises:
        UsageError: the study has an objective of its own, whose parameters only it understands.
        ConflictError: no run of the study has ended with a value.
    """
    spec = snapshot.spec
    if spec.model is None or spec.data is None or spec.objective is not None:
        raise UsageError(
            f"study {snapshot.name} has an objective of its own: its parameters are in best/config.yaml, and only "
            "the objective itself can train with them"
        )
    chosen, run = evidence.recommended, evidence.exported
    if chosen is None or run is None or evidence.stage is None:
        remedy = "let it run until a trial has ended with a value"
        raise ConflictError(f"study {snapshot.name} recommends nothing yet, {evidence.sentence}: {remedy}")
    given = spec.training.model_dump(exclude_unset=True)
    resolved = spec.training.hyperparameters().with_values(chosen.parameters).model_dump(exclude_unset=True)
    for name in ("lora_alpha", "lora_alpha_multiplier"):
        given.pop(name, None)
    training = TrainingSpec.model_validate({**given, **resolved, "epochs": epochs or spec.training.epochs})
    trial = _trial(snapshot, run.trial_id)
    cut = trial.facts.training if trial else None
    micro = (cut.micro_batch if cut else None) or micro_batch(training.effective_batch, training.micro_batch)
    return Recipe(
        study=snapshot.name,
        trial=f"{evidence.stage} #{run.number}",
        label=chosen.label,
        verdict=evidence.sentence,
        base=STAGES[evidence.stage].model_of(spec) or spec.model.base,
        model=spec.model,
        data=spec.data,
        training=training,
        searched_epochs=spec.training.epochs,
        seed=run.seed,
        micro_batch=micro,
        accumulation=max(1, training.effective_batch // micro),
        compute=(trial.facts.environment.compute if trial else None) or "",
        versions=(trial.facts.environment.versions if trial else None) or "",
        test=chosen.test if evidence.is_loss else None,
    )


def epochs_advice(snapshot: StudySnapshot, evidence: Evidence) -> str:
    """Say what the curve of the run that is handed over tells about more epochs; empty where it tells nothing.

    Compared are its last evaluation and the best before its last fifth; its learning rate had fallen by then, so the
    figure understates what a longer schedule brings.
    """
    run = evidence.exported
    trial = _trial(snapshot, run.trial_id) if run is not None else None
    curve = sorted((r.step, r.fraction, r.value) for r in trial.curve if r.value is not None) if trial else []
    if len(curve) < 4 or not evidence.is_loss:
        return ""
    (_, end, last), best = curve[-1], min(value for _, _, value in curve)
    before = [value for _, fraction, value in curve if fraction <= 0.8 * end] or [curve[0][2]]
    gained = (min(before) - last) / abs(min(before)) if min(before) else 0.0
    if last > best * 1.01:
        rise = 100 * (last / best - 1)
        return f"fewer epochs: the validation loss ends {rise:.1f}% above its best, so the run has begun to overfit"
    if gained > 0.005:
        return (
            f"more epochs are worth a try: the validation loss still fell by {100 * gained:.1f}% in the last fifth of "
            "the run, and had not turned"
        )
    return f"more epochs promise little: the last fifth of the run brought {100 * max(0.0, gained):.1f}%"


def _trial(snapshot: StudySnapshot, trial_id: int) -> TrialView | None:
    return next((trial for stage in snapshot.stages for trial in stage.trials if trial.id == trial_id), None)
