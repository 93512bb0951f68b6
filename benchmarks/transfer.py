"""Whether the verify stage looks where the best learning rate is: the quickstart's two models, swept by hand.

    python benchmarks/transfer.py
    python benchmarks/transfer.py --rank 4 16 --seeds 5 --json

For each rank the small model is trained at a row of learning rates, with several seeds, and the best rate is read off:
the lowest point of a parabola through the best rate and its neighbours, over the logarithm of the rate. That rate is
carried over as the product does it, and the large model is swept around where it lands. `--check` fails where another
factor of the bracket lies nearer to the large model's best rate than x 1 does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.packing import Bench, Supervisor
from hpo_service.domain.decide.transfer.scaling import carry_over
from hpo_service.domain.study.sections.data import DataSpec, SplitSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.study.sections.transfer import TransferSpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.service.studies.model_config import read_config
from hpo_service.wire.messages import Finished

SMALL, LARGE = "builtin:llama-tiny", "builtin:llama-small"
SMALL_RATES = [2e-3 * 2 ** (step / 2) for step in range(10)]
"""From 2e-3 to 4.5e-2; the quickstart's space ends at 2e-2."""
AROUND = [2.0 ** (step / 2) for step in range(-4, 5)]
"""Factors on the carried rate at which the large model is swept: 1/4 to 4."""
SLOTS = 8


@dataclass(frozen=True)
class Carried:
    """Where the rate of one rank landed, and where the best lies."""

    rank: int
    carried_rank: int
    small_best: float
    centre: float
    large_best: float

    @property
    def off(self) -> float:
        """The best rate as a multiple of the centre that the bracket is laid around."""
        return self.large_best / self.centre

    def nearest(self, bracket: Sequence[float]) -> float:
        """The factor of a bracket that lies nearest to the best rate."""
        return min(bracket, key=lambda factor: abs(math.log(self.off / factor)))


class Listener(Supervisor):
    """A supervisor that keeps the values of its trials."""

    def __init__(self, trials: list[TrialConfig], folder: Path) -> None:
        super().__init__(trials, folder, SLOTS)
        self.values: dict[str, float] = {}

    def send(self, message: Any) -> None:
        """Hear the engine."""
        super().send(message)
        if isinstance(message, Finished):
            value = message.outcome.value
            self.values[message.trial] = math.inf if value is None else value


def losses(bench: Bench, model: str, rank: int, rates: Sequence[float], seeds: int) -> list[float]:
    """Mean validation loss at each learning rate, over seeds, in nats per token."""
    trials = [_trial(model, rank, rate, seed) for rate in rates for seed in range(seeds)]
    with tempfile.TemporaryDirectory() as folder:
        heard: Any = Listener(trials, Path(folder))
        bench.serve(heard)
    found = [heard.values[trial] for trial in sorted(heard.values)]  # numbers in names have four digits
    return [statistics.mean(found[at : at + seeds]) for at in range(0, len(found), seeds)]


def best_rate(rates: Sequence[float], found: Sequence[float]) -> float:
    """The lowest point of the parabola through the best rate and its neighbours; the best itself at an end."""
    at = int(np.argmin(found))
    if not 0 < at < len(rates) - 1:
        return rates[at]
    near = slice(max(0, at - 2), at + 3)
    square, slope, _ = np.polyfit(np.log(rates[near]), found[near], 2)
    lowest = float(np.exp(-slope / (2 * square))) if square > 0 else rates[at]
    return min(max(lowest, rates[at - 1]), rates[at + 1])


def carried(bench: Bench, rank: int, seeds: int, cache: Path, *, quiet: bool) -> Carried:
    """Sweep the small model, carry its best rate over, and sweep the large one around it."""
    small = losses(bench, SMALL, rank, SMALL_RATES, seeds)
    rate = best_rate(SMALL_RATES, small)
    training = _trial(SMALL, rank, rate, 0).training
    facts = [_facts(model, cache) for model in (SMALL, LARGE)]
    target = carry_over({"lora_rank": rank, "learning_rate": rate}, training, facts[0], facts[1], TransferSpec())
    centre, grown = float(target.parameters["learning_rate"]), int(target.parameters["lora_rank"])
    rates = [centre * factor for factor in AROUND]
    large = losses(bench, LARGE, grown, rates, seeds)
    if not quiet:
        for model, tried, values in ((SMALL, SMALL_RATES, small), (LARGE, rates, large)):
            print(f"{model}: " + ", ".join(f"{r:.2g}: {v:.4f}" for r, v in zip(tried, values, strict=True)))
    return Carried(rank, grown, rate, centre, best_rate(rates, large))


def sweep(ranks: Sequence[int], seeds: int, cache: Path, *, quiet: bool = False) -> list[Carried]:
    """Carry the best rate of each rank over."""
    os.environ["OMP_NUM_THREADS"] = str(os.cpu_count() or 1)
    bench = Bench(cache)
    for model in (SMALL, LARGE):  # pre-trained first, where they are not there yet
        bench.seconds([_trial(model, 4, 1e-3, 0)], 1)
    return [carried(bench, rank, seeds, cache, quiet=quiet) for rank in ranks]


def sentence(one: Carried) -> str:
    """Say in words what one rank showed."""
    nearest = one.nearest(TransferSpec().bracket)
    return (
        f"rank {one.rank}: best rate {one.small_best:.3g} on {SMALL}; carried to rank {one.carried_rank} at "
        f"{one.centre:.3g}, the best on {LARGE} is {one.large_best:.3g} (x {one.off:.2f}): nearest is x {nearest:g}"
    )


def _facts(model: str, cache: Path) -> ModelFacts:
    config = read_config(model, cache)
    return ModelFacts(family=config["model_type"], hidden_size=config["hidden_size"])


def _trial(model: str, rank: int, rate: float, seed: int) -> TrialConfig:
    return TrialConfig(
        study="transfer",
        stage="search",
        parameters={},
        seed=seed,
        model=ModelSpec(base=model),
        model_name=model,
        data=DataSpec(
            source="builtin:stdlib-docstrings",
            max_length=64,
            max_rows=1000,
            split=SplitSpec(validation=0.15, test=0.2),
        ),
        training=TrainingSpec(
            learning_rate=rate, lora_rank=rank, evaluations_per_epoch=1, micro_batch=16, warmup_ratio=0.05, patience=0
        ),
    )


def main(arguments: list[str]) -> int:
    """Sweep, print, and judge if asked to."""
    from platformdirs import user_cache_dir

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit 1 where x 1 is not the nearest")
    options = parser.parse_args(arguments)
    cache = Path(os.environ.get("HPO_SERVICE_CACHE") or user_cache_dir("hpo-service"))
    found = sweep(options.rank, options.seeds, cache, quiet=options.json)
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        print("\n".join(sentence(one) for one in found))
    return int(options.check and any(one.nearest(TransferSpec().bracket) != 1 for one in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
