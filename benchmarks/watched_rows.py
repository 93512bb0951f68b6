"""How many validation rows tell configurations apart: standard errors of losses, and of differences on the same rows.

    python benchmarks/watched_rows.py            # some five minutes on two cores, of which the model's making is half

Trains configurations of the quickstart's base one after another with the engine, and prints for each pair how far their
losses are apart, how much that difference deviates from row to row, and its standard error at several numbers of rows.
The same seed twice would differ by nothing; two seeds of one configuration show what is noise between runs.

`--check` fails where the rows that `training.evaluation_rows: auto` never goes below do not tell apart, by two standard
errors, a pair whose losses differ by more than those of the two seeds, and more than `LEAST_DIFFERENCE`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.solo import our_run, quiet
from hpo_service.domain.decide.watched_rows import LEAST
from hpo_service.domain.study.sections.data import DataSpec, SplitSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.scores import Scores

MODEL = "builtin:llama-tiny"
ROWS = 4000
SHARE = 0.23
"""Of the training rows: many rows are wanted for validation, and few are enough to train on."""
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "lr 2e-3": {"learning_rate": 2e-3},
    "lr 4e-3": {"learning_rate": 4e-3},
    "lr 8e-3": {"learning_rate": 8e-3},
    "lr 8e-3 again": {"learning_rate": 8e-3, "seed": 8},
    "lr 1.2e-2": {"learning_rate": 1.2e-2},
    "lr 8e-3, r 4": {"learning_rate": 8e-3, "lora_rank": 4},
}
"""By name what is not rank 16 and seed 7."""
SEEDS = ("lr 8e-3", "lr 8e-3 again")
COUNTS = (64, 128, LEAST, 512)
ERRORS = 2.0
LEAST_DIFFERENCE = 0.01
"""In nats a token; about a fifth of a percent here."""


def configuration(changes: Mapping[str, Any]) -> TrialConfig:
    """The trial of one configuration."""
    training = {"lora_rank": 16, **changes}
    return TrialConfig(
        study="rows",
        stage="search",
        parameters={},
        seed=training.pop("seed", 7),
        model=ModelSpec(base=MODEL),
        model_name=MODEL,
        data=DataSpec(
            source="builtin:stdlib-docstrings",
            max_length=64,
            max_rows=ROWS,
            split=SplitSpec(validation=0.2, test=0.1),
        ),
        training=TrainingSpec(evaluations_per_epoch=1, micro_batch=16, **training),
        share=SHARE,
    )


def train(folder: Path) -> dict[str, Scores]:
    """Train every configuration; return its losses by validation row."""
    from hpo_service.training.engines.solo import SoloEngine
    from hpo_service.training.run.loaded_models import LoadedModels

    engine = SoloEngine(LoadedModels(folder / "cache"))
    found = {}
    for number, (name, changes) in enumerate(CONFIGURATIONS.items()):
        outcome, _, _ = our_run(engine, configuration(changes), folder / str(number))
        if outcome.validation is None:
            raise SystemExit(f"{name} has no losses: {outcome.reason}")
        found[name] = outcome.validation
    return found


def deviation(nll: Any, tokens: Any) -> float:
    """Deviation of a row's part in a mean by token, in nats a token (Cochran, Sampling Techniques, 1977, chapter 6)."""
    return float((nll - tokens * nll.sum() / tokens.sum()).std(ddof=1) / tokens.mean())


def measure(found: Mapping[str, Scores]) -> dict[str, Any]:
    """Deviations of rows: of each configuration, and of the difference of each pair."""
    tokens = np.asarray(next(iter(found.values())).tokens, dtype=np.float64)
    nll = {name: np.asarray(scores.nll) for name, scores in found.items()}
    pairs = []
    for one, other in combinations(found, 2):
        lost = nll[one] - nll[other]
        row = deviation(lost, tokens)
        errors = {count: row / math.sqrt(count) for count in COUNTS}
        pairs.append(
            {"pair": [one, other], "difference": lost.sum() / tokens.sum(), "deviation": row, "errors": errors}
        )
    alone = {name: {"loss": scores.mean, "deviation": deviation(nll[name], tokens)} for name, scores in found.items()}
    return {"rows": len(tokens), "tokens_a_row": tokens.mean(), "alone": alone, "pairs": pairs}


def shortfalls(figures: Mapping[str, Any]) -> list[str]:
    """Pairs that the least number of rows does not tell apart, though they differ by more than two seeds do."""
    noise = next(abs(each["difference"]) for each in figures["pairs"] if tuple(each["pair"]) == SEEDS)
    return [
        f"{each['pair']}: {each['difference']:.4f} +- {each['errors'][LEAST]:.4f} at {LEAST} rows"
        for each in figures["pairs"]
        if abs(each["difference"]) > max(noise, LEAST_DIFFERENCE)
        and abs(each["difference"]) < ERRORS * each["errors"][LEAST]
    ]


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 where rows do not tell configurations apart")
    options = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory(prefix="hpo-") as place:
        figures = measure(train(Path(place)))
    figures["failed"] = shortfalls(figures)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        print(f"{figures['rows']} validation rows of {figures['tokens_a_row']:.1f} supervised tokens; nats a token")
        for name, alone in figures["alone"].items():
            print(f"{name:<16} loss {alone['loss']:.4f}, a row deviates by {alone['deviation']:.3f}")
        print(f"{'difference of':<32}{'':>9}{'a row':>8}" + "".join(f"{f'at {count}':>9}" for count in COUNTS))
        for each in figures["pairs"]:
            errors = "".join(f"{each['errors'][count]:>9.4f}" for count in COUNTS)
            print(f"{' and '.join(each['pair']):<32}{each['difference']:>9.4f}{each['deviation']:>8.3f}{errors}")
        print("\n".join(f"not met: {line}" for line in figures["failed"]))
    return 1 if options.check and figures["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
