"""The arithmetic of one run: micro-batches, optimizer steps, warm-up, and after which steps to evaluate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo_service.domain.memory.micro_batches import DEFAULT_MICRO_BATCH, micro_batch
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.errors import TrialError


@dataclass(frozen=True)
class StepPlan:
    """How a run is cut: `steps` optimizer steps in all, `evaluations` at equal fractions of them.

    Each of `ranks` processes computes `micro_batch` rows at once, `accumulation` times per step.
    """

    micro_batch: int
    accumulation: int
    steps: int
    warmup_steps: int
    evaluations: int
    ranks: int = 1

    @classmethod
    def of(cls, spec: TrainingSpec, rows: int, ranks: int = 1, limit: int | None = None) -> StepPlan:
        """Plan the full schedule for this many training rows; the last, smaller batch of an epoch counts as a step.

        A micro-batch above `limit`, where memory allows no more, is cut; steps and schedule stay what they are.

        Raises:
            TrialError: the ranks cannot share the effective batch equally.
        """
        if spec.effective_batch % ranks:
            raise TrialError(
                f"effective_batch {spec.effective_batch} cannot be shared equally by {ranks} GPUs: "
                "choose a multiple of execution.gpus_per_trial"
            )
        wanted = spec.micro_batch or DEFAULT_MICRO_BATCH
        micro = micro_batch(spec.effective_batch // ranks, min(wanted, limit or wanted))
        steps = spec.epochs * math.ceil(rows / spec.effective_batch)
        return cls(
            micro_batch=micro,
            accumulation=spec.effective_batch // (micro * ranks),
            steps=steps,
            warmup_steps=math.ceil(spec.warmup_ratio * steps),
            evaluations=spec.epochs * spec.evaluations_per_epoch,
            ranks=ranks,
        )

    def due(self, step: int) -> range:
        """The evaluations k (from 1) to be made after this step: those with ceil(k / evaluations * steps) = step."""
        return range((step - 1) * self.evaluations // self.steps + 1, step * self.evaluations // self.steps + 1)

    def fraction(self, evaluation: int) -> float:
        """The share of the run after which an evaluation is made, the same for every batch size."""
        return evaluation / self.evaluations
