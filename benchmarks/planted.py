"""Whole studies with a planted truth: is the configuration they end with the right one, and what they say of it true?

    python benchmarks/planted.py --check
    python benchmarks/planted.py --repetitions 20 --seeds 3 --json

Everything of a study runs as in a fleet (database, sampler, pruner, planners, evidence) but the training, which is
planted: the best learning rate of a small model is drawn, that of the large one lies lower by a power of the width
which is drawn too, ranks and dropouts matter a little, runs have noise of their own, and test rows share their
difficulty.

In each repetition the default is a factor of 4 off. `found` is the share of studies whose recommended configuration
costs no more than `NOISE` beyond the best there is; `covered` the share of intervals that hold the true difference;
`equal` the share of studies in which configurations make no difference and which say so. `--check` fails where found is
under 90%, covered outside of 92 to 99%, or equal under 93%, by more than so many repetitions may wander.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.scores import Scores
from hpo_service.service.studies.findings.evidence import Evidence, Verdict
from hpo_service.service.trials.queue import Copied
from hpo_service.settings import Settings

SMALL, LARGE = ModelFacts(family="llama", hidden_size=512), ModelFacts(family="llama", hidden_size=2048)
CURVATURE = 0.02
"""Nats that a learning rate costs which is off by a factor of e."""
SEED_NOISE = 0.005
"""Deviation of a run's loss from its configuration's, in nats per token."""
NOISE = 3 * SEED_NOISE
"""What a configuration may cost beyond the best one and still count as found: as much as runs of one differ by."""
ROWS = 150
EVALUATIONS = 4
LOWEST_FOUND, LOWEST_COVERED, HIGHEST_COVERED, LOWEST_EQUAL = 0.90, 0.92, 0.99, 0.93
WANDER = 2.0
"""Standard errors that a share of so many repetitions may lie from the truth."""


@dataclass(frozen=True)
class Truth:
    """What is planted in one study.

    Attributes:
        rates: the best learning rate at rank 16 by model, small and large.
        flat: configurations make no difference.
    """

    rates: tuple[float, float]
    flat: bool = False

    @classmethod
    def drawn(cls, rng: np.random.Generator, *, flat: bool) -> Truth:
        """Draw the small model's best rate, and by which power of the width it falls."""
        small = 10 ** rng.uniform(-3.7, -2.7)
        power = rng.normal(0.5, 0.15)
        return cls((small, small * (SMALL.hidden_size / LARGE.hidden_size) ** power), flat)

    def loss(self, assignment: Assignment) -> float:
        """Mean loss of a configuration on its model, in nats per token, without noise."""
        training = assignment.config.training
        return self.of(assignment.config.model_name == "large", training.learning_rate, training.lora_rank)

    def of(self, large: bool, rate: float, rank: int) -> float:
        """The same of a learning rate and a rank; with alpha as a multiple of the rank the best rate falls with it."""
        level = 1.5 if large else 2.0
        if self.flat:
            return level
        best = self.rates[large] * (rank / 16) ** -0.5
        return level + CURVATURE * math.log(rate / best) ** 2 + 0.003 * max(0.0, math.log2(32 / rank))

    @property
    def best(self) -> float:
        """The least loss there is on the large model."""
        return 1.5


@dataclass(frozen=True)
class Found:
    """What one study ended with."""

    excess: float
    covered: bool | None
    verdict: Verdict
    trials: int


@dataclass(frozen=True)
class Share:
    """How often something held, and what was asked for."""

    what: str
    seeds: int
    share: float
    repetitions: int
    low: float
    high: float

    @property
    def passes(self) -> bool:
        """Whether it lies within the limits, as far as so many repetitions can tell."""
        low, high = (WANDER * (p * (1 - p) / self.repetitions) ** 0.5 for p in (self.low, self.high))
        return bool(self.low - low <= self.share <= self.high + high)


def study(name: str, truth: Truth, seeds: int, seed: int) -> StudySpec:
    """A study from a small to a large model, with a default that is a factor of 4 off."""
    default = {"learning_rate": truth.rates[1] * 4, "lora_rank": 16}
    rates = {"low": 2e-5, "high": 1e-2, "log": True}
    return StudySpec.model_validate(
        {
            "name": name,
            "model": {"base": "small", "target": "large"},
            "data": {"source": "rows.jsonl"},
            "space": {
                "preset": "none",
                "parameters": {"learning_rate": rates, "lora_rank": {"choices": [4, 8, 16, 32]}},
            },
            "search": {"budget": {"trials": 20}, "seed": seed},
            "training": {"evaluations_per_epoch": EVALUATIONS, "warmup_ratio": 0.03},
            "confirm": {"seeds": seeds, "default": default},
        }
    )


def run(service: Service, spec: StudySpec, truth: Truth, rng: np.random.Generator) -> Found:
    """Take a study to its end, trial by trial, and compare what it says with the truth."""
    service.studies.create(spec)
    service.queue.describe(spec.name, {"small": SMALL, "large": LARGE})
    rows = rng.gamma(4, 0.25, ROWS)
    trials = 0
    while (assignment := _claim(service, spec.name)) is not None:
        _train(service, assignment, truth, rows, rng)
        trials += 1
    return _found(service.reader.evidence(service.reader.snapshot(spec.name)), truth, trials)


def _claim(service: Service, study: str) -> Assignment | None:
    while True:
        claimed = service.queue.claim("w1", study)
        if isinstance(claimed, Assignment):
            return claimed
        if not isinstance(claimed, Copied) and not service.stages.advance_all():
            return None


def _train(
    service: Service, assignment: Assignment, truth: Truth, rows: np.ndarray[Any, Any], rng: np.random.Generator
) -> None:
    """Report a falling curve, obey the pruner, and end with a loss and scores of rows."""
    end = truth.loss(assignment) + rng.normal(0, SEED_NOISE)
    value = end
    for step in range(1, EVALUATIONS + 1):
        left = 1 - step / EVALUATIONS
        value = end + 0.4 * left**2 + rng.normal(0, 0.003) * (left > 0)
        decision = service.queue.report(assignment.lease, Report(step=step, fraction=step / EVALUATIONS, value=value))
        if decision.action == "prune":
            outcome = Outcome(kind=OutcomeKind.PRUNED, reason=decision.reason, value=value)
            service.queue.finish(assignment.lease, outcome)
            return
    tokens = [20] * ROWS
    taken = rows * end / rows.mean() + rng.normal(0, 0.02, ROWS)
    scores = Scores(nll=(taken * 20).tolist(), tokens=tokens)
    outcome = Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=end, validation=scores, test=scores)
    service.queue.finish(assignment.lease, outcome)


def _found(evidence: Evidence, truth: Truth, trials: int) -> Found:
    chosen, default, winner = evidence.recommended, evidence.default, evidence.winner
    if chosen is None or default is None or winner is None or evidence.comparison is None:
        raise SystemExit(f"a study ended without a comparison: {evidence.sentence}")

    def loss(parameters: Any) -> float:
        return truth.of(True, float(parameters["learning_rate"]), int(parameters["lora_rank"]))

    real = 100 * (loss(default.parameters) - loss(winner.parameters)) / loss(default.parameters)
    low, high = evidence.comparison.low, evidence.comparison.high
    covered = None if low is None or high is None else low <= real <= high
    return Found(loss(chosen.parameters) - truth.best, covered, evidence.verdict, trials)


def measure(repetitions: int, seeds: Sequence[int], told: Callable[[str], object]) -> list[Share]:
    """Run studies with and without a difference, for each number of confirm seeds."""
    shares: list[Share] = []
    cells = [(count, flat) for count in seeds for flat in (False, True)]
    with ProcessPoolExecutor() as pool:
        studies = dict(zip(cells, pool.map(partial(_studies, repetitions), cells), strict=True))
    for count in seeds:
        found, equal = studies[count, False], studies[count, True]
        shares += [
            _share("found", count, [each.excess <= NOISE for each in found], LOWEST_FOUND, 1.0),
            _share("covered", count, [bool(each.covered) for each in found], LOWEST_COVERED, HIGHEST_COVERED),
            _share("equal", count, [each.verdict is Verdict.UNCLEAR for each in equal], LOWEST_EQUAL, 1.0),
        ]
        for share in shares[-3:]:
            told(f"{share.what:8} {count:3} seeds  {share.share:.1%}{'' if share.passes else '  <- outside'}")
        excess = [each.excess for each in found]
        told(f"{'excess':8} {count:3} seeds  median {np.median(excess):.4f}, worst {max(excess):.4f} nats")
    return shares


def _studies(repetitions: int, cell: tuple[int, bool]) -> list[Found]:
    """Run the studies of one cell: so many confirm seeds, with or without a difference."""
    seeds, flat = cell
    found = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        service = Service(Settings(storage=f"sqlite:///{place / 'study.db'}", output=place, cache=place))
        service.upgrade()
        with service.db.transaction():
            service.worker_rows.register("w1", "host", 1, "0", "cpu")
        for number in range(repetitions):
            rng = np.random.default_rng([number, seeds, flat])
            truth = Truth.drawn(rng, flat=flat)
            found.append(run(service, study(f"s{number}", truth, seeds, number), truth, rng))
        service.db.dispose()
    return found


def _share(what: str, seeds: int, held: Sequence[bool], low: float, high: float) -> Share:
    return Share(what, seeds, float(np.mean(held)), len(held), low, high)


def main(arguments: list[str]) -> int:
    """Run the studies, print what held, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)

    def told(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    shares = measure(options.repetitions, options.seeds, told)
    if options.json:
        print(json.dumps([asdict(share) for share in shares], indent=2))
    return int(options.check and not all(share.passes for share in shares))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
