"""What a device has against what a trial needs: the micro-batch that fits, or the refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hpo_service.domain.memory.demand import Demand
from hpo_service.domain.memory.estimate import OPTIMIZER_BYTES, Estimate, at_rest_gb, estimate, side_by_side
from hpo_service.domain.memory.micro_batches import smaller_micro_batches
from hpo_service.errors import DoesNotFitError

# Variable that is set by people who share a GPU among programs: GB (1e9 bytes) that one worker may use.
MEMORY_SHARE = "HPO_SERVICE_MEMORY_GB"
# Share of the device a plan may fill: an estimate is right within some per cent, a halving costs a restart.
PLANNED_SHARE = 0.92
# Nothing is refused that is thought to need less than this times what is there: trying costs a minute.
REFUSED_ABOVE = 1.1
# The least by which something that did not fit is said to be too large, in GB.
LEAST_OVER_GB = 0.1


@dataclass(frozen=True)
class Fit:
    """A micro-batch and what it is thought to need."""

    micro_batch: int
    estimate: Estimate


def largest_fit(demand: Demand, effective_batch: int, capacity_gb: float | None) -> Fit:
    """The largest micro-batch that fits, from `demand.micro_batch` down by halves; nothing is cut without a capacity.

    Args:
        demand: what is asked for.
        effective_batch: rows per optimizer step, which the micro-batch divides.
        capacity_gb: what the device has for this process, in GB; None where that is not known.

    Raises:
        DoesNotFitError: not even one row at a time fits.
    """
    sizes = smaller_micro_batches(effective_batch, demand.micro_batch)
    fits = [Fit(size, estimate(replace(demand, micro_batch=size))) for size in sizes]
    if capacity_gb is None:
        return fits[0]
    least = fits[-1]
    if least.estimate.total_gb > REFUSED_ABOVE * capacity_gb:
        raise refusal(demand, least.estimate, capacity_gb)
    return next((fit for fit in fits if fit.estimate.total_gb <= PLANNED_SHARE * capacity_gb), least)


@dataclass(frozen=True)
class PackFit:
    """How many trials fit side by side, how many tokens may go through the base at once, and why no more trials do."""

    trials: int
    pass_tokens: int
    short: str = ""


def pack_that_fits(
    demand: Demand, most: int, capacity_gb: float | None, pass_tokens: tuple[int, int], head_tokens: int
) -> PackFit:
    """As many trials like this one as fit beside each other in the smallest passes, then the largest that fit them.

    Args:
        demand: of one of them.
        most: trials that are wanted.
        capacity_gb: what the device has for this process, in GB; None where that is not known.
        pass_tokens: fewest and most tokens that go through the base at once, unless one row is longer.
        head_tokens: most tokens whose logits exist at once.
    """
    least, wanted = pass_tokens
    if capacity_gb is None:
        return PackFit(most, wanted)

    def needed(trials: int, tokens: int) -> float:
        return side_by_side(demand, trials, tokens, head_tokens).total_gb

    fit = next((n for n in range(most, 1, -1) if needed(n, least) <= PLANNED_SHARE * capacity_gb), 1)
    smaller = [size for size in _pass_sizes(least, wanted) if needed(fit, size) <= PLANNED_SHARE * capacity_gb]
    tokens = smaller[0] if smaller else least
    if fit == most:
        return PackFit(fit, tokens)
    return PackFit(
        fit, tokens, f"{fit + 1} trials would need about {needed(fit + 1, least):.2f} GB of {capacity_gb:.2f}"
    )


def _pass_sizes(least: int, most: int) -> list[int]:
    """From the largest down by quarters and thirds in turn, so that every second one is half: 4, 3, 2, 1.5, 1 times."""
    sizes = [most]
    while sizes[-1] > least:
        shorter = sizes[-1] * 3 // 4 if len(sizes) % 2 else sizes[-2] // 2
        sizes.append(max(least, shorter))
    return sizes


def check_at_rest(demand: Demand, capacity_gb: float | None) -> None:
    """Refuse what cannot fit even before its first batch: weights, adapter and optimizer.

    Raises:
        DoesNotFitError: they alone are too large.
    """
    if capacity_gb is not None and at_rest_gb(demand) > REFUSED_ABOVE * capacity_gb:
        raise refusal(demand, estimate(replace(demand, micro_batch=1)), capacity_gb)


def refusal(demand: Demand, needed: Estimate, capacity_gb: float) -> DoesNotFitError:
    """Say in one line what is needed, part by part, what is there, and what would make it fit."""
    return DoesNotFitError(
        f"needs about {needed.total_gb:.2f} GB for one row of {demand.length} tokens, {_trained(demand)} "
        f"({needed.wording()}), and {capacity_gb:.2f} GB are there: {remedies(demand)}",
        over_gb=max(LEAST_OVER_GB, needed.total_gb - capacity_gb),
        estimate_gb=needed.tensors_gb,
    )


def remedies(demand: Demand | None) -> str:
    """What is left to make a configuration smaller, in words; where it is not known, everything there is."""
    open_still = [text for applies, text in REMEDIES if demand is None or applies(demand)]
    return ", ".join([*open_still, "or use a larger device"])


def _trained(demand: Demand) -> str:
    return f"method {demand.method}" + (f" of rank {demand.rank}" if demand.kind.low_rank else "")


REMEDIES: tuple[tuple[Callable[[Demand], bool], str], ...] = (
    (lambda demand: demand.length > 0, "shorten data.max_length"),
    (lambda demand: not demand.checkpointing and demand.kind.checkpointable, "switch activation checkpointing on"),
    (lambda demand: demand.whole, "train an adapter instead of all weights (method lora)"),
    (lambda demand: demand.kind.low_rank, "lower lora_rank"),
    (lambda demand: OPTIMIZER_BYTES[demand.optimizer] > OPTIMIZER_BYTES["adamw_8bit"], "use an 8-bit optimizer"),
    (lambda demand: not demand.whole and demand.quantisation != "nf4", "hold the base in 4 bits (method qlora)"),
)
"""Ways to need less memory, from the practitioners' order of least harm, each with when it is still open."""


def memory_case(model: str | None, method: str) -> str:
    """The name under which measured peaks are compared with estimates: those of one model and method."""
    return f"{method} on {model}"
