"""The settings to start from, before anything is measured: each with its reason and source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hpo_service.domain.advise.batch_plan import SQUARE_ROOT, BatchPlan, plan_batch, rate_for_batch
from hpo_service.domain.advise.guides import (
    BASE_BATCH,
    GUIDES,
    LADDER,
    RANKS,
    TASKS,
    ByRows,
    by_rows,
    by_size,
    method_factor,
)
from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.estimate import estimate
from hpo_service.domain.memory.fit import PLANNED_SHARE
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.study.methods import METHODS
from hpo_service.domain.study.sections.training import TrainingSpec

MEMORY = "the memory estimate (docs/memory.md)"


@dataclass(frozen=True)
class Situation:
    """What is to be trained, on what.

    Attributes:
        shape: sizes of the model.
        rows: training rows.
        length: tokens of the longest row.
        task: what is to be learned, one of `TASKS`.
        gpu_gb: memory of a GPU in GB; None where it is not known, and nothing is ruled out.
        gpus: GPUs that share a batch.
    """

    shape: ModelShape
    rows: int
    length: int = 512
    task: str = "general"
    gpu_gb: float | None = None
    gpus: int = 1

    @property
    def weights(self) -> int:
        """Weights of the model."""
        return self.shape.linear_weights + self.shape.table_weights


@dataclass(frozen=True)
class Advice:
    """One setting: its value, why that one, and where that comes from."""

    name: str
    value: str | int | float
    reason: str
    source: str = GUIDES


@dataclass(frozen=True)
class Recommendation:
    """All settings of a run, the batch that fits, and the section of a study file that says the same."""

    advice: list[Advice]
    plan: BatchPlan
    training: dict[str, str | int | float]


def recommend(situation: Situation) -> Recommendation:
    """Recommend the settings of a run.

    Raises:
        DoesNotFitError: not even the smallest method fits the GPU.
    """
    rows, size = by_rows(situation.rows), by_size(situation.weights)
    rank = next(rank for most, rank in RANKS if situation.rows <= most)
    rank = max(4, round(rank * TASKS[situation.task].rank_factor))
    # as many GPUs as there are must share it
    batch = max(min(max(rows.batch, size.least_batch), size.most_batch) // situation.gpus, 1) * situation.gpus
    method, optimizer, why = _method(situation, rank)
    plan = plan_batch(_demand(situation, method, optimizer, rank, batch), batch, situation.gpus, situation.gpu_gb)
    usual = METHODS[method].rates
    rate = rate_for_batch(size.rate * method_factor(method), BASE_BATCH, batch)
    rate = float(f"{min(max(rate, usual.low), usual.high):.2g}")
    at_batch = "" if batch == BASE_BATCH else f"; for a batch of {batch} instead of {BASE_BATCH} by the {SQUARE_ROOT}"
    halved = "" if method_factor(method) == 1 else f", times {method_factor(method):g} for {method}"
    task = TASKS[situation.task].summary
    advice = [
        Advice("method", method, why, MEMORY),
        Advice("learning_rate", rate, f"{size.reason}{halved}{at_batch}"),
        Advice("lora_rank", rank, f"{situation.rows} rows; task {situation.task}: {task}"),
        Advice("lora_alpha_multiplier", 1, "alpha = rank is the usual strength; 2 is strong, a half is gentle"),
        Advice("target_modules", "all-linear", "adapters on all linear modules do best at the same number of weights"),
        Advice("effective_batch", batch, f"{situation.rows} rows, {situation.weights / 1e9:.1f}B weights"),
        Advice("micro_batch", plan.micro_batch, plan.reasons[0], MEMORY),
        Advice(
            "accumulation", plan.accumulation, f"the batch over the micro-batch and {situation.gpus} GPU(s)", MEMORY
        ),
        *_schedule(situation, rows),
        Advice(
            "optimizer", optimizer, "moments in 8 bits, since memory is short" if "8bit" in optimizer else "the usual"
        ),
        Advice(
            "precision", "bf16", "where the GPU has it (Ampere and later), else fp16 with a scaled loss; auto decides"
        ),
    ]
    known = set(TrainingSpec.model_fields)
    return Recommendation(advice, plan, {each.name: each.value for each in advice if each.name in known})


def _schedule(situation: Situation, rows: ByRows) -> Iterator[Advice]:
    few = f"{situation.rows} rows"
    yield Advice("epochs", rows.epochs, f"{few}: guides give {rows.epochs_said}; stop early when validation rises")
    yield Advice("scheduler", "cosine", "the default of nearly all guides")
    yield Advice("warmup_ratio", rows.warmup_ratio, f"{few}: the fewer, the longer")
    yield Advice("weight_decay", rows.weight_decay, few)
    yield Advice("lora_dropout", rows.dropout, f"{few}: against learning them by heart")
    yield Advice("max_grad_norm", rows.max_grad_norm, few)


def _method(situation: Situation, rank: int) -> tuple[str, str, str]:
    gb = situation.gpu_gb
    if gb is None:
        return (*LADDER[0], "no GPU was named, so nothing is ruled out (--gpu GB)")
    said = []
    for method, optimizer in LADDER:
        needed = estimate(_demand(situation, method, optimizer, rank, 1)).total_gb
        said.append(f"{method} needs {needed:.1f} GB for one row")
        if needed <= PLANNED_SHARE * gb:
            return method, optimizer, f"{'; '.join(dict.fromkeys(said))}, of {gb:g} GB"
    # what fits by a hair is tried, what does not is refused when the batch is planned
    return (*LADDER[-1], f"{said[-1]}, of {gb:g} GB: it will be tight")


def _demand(situation: Situation, method: str, optimizer: str, rank: int, batch: int) -> Demand:
    training = TrainingSpec.model_validate(
        {"method": method, "optimizer": optimizer, "lora_rank": rank, "effective_batch": batch}
    )
    return Demand.of(training, situation.shape, length=situation.length, ranks=min(batch, situation.gpus))
