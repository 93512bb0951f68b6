"""Tables over learning rate and model size: what a scaling rule, alone and with its bracket, would have lost.

Configurations that differ in nothing but the learning rate lie on a curve over its logarithm; between the rates of the
table a monotone cubic (Fritsch and Carlson, 1980) stands for what was not run, and beyond them nothing can be tried.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from statistics import fmean

from benchmarks.replaying.curves import has_curve
from benchmarks.replaying.table import Kind, Row, Table, Told, UnreadableTableError
from hpo_service.domain.decide.planning.bracket import beyond, factors
from hpo_service.domain.decide.transfer.scaling import SCALING_RULES, carry_over
from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.domain.study.sections.transfer import TransferSpec
from hpo_service.domain.trial.model_facts import ModelFacts

RATE = re.compile(r"^(lr|learning_rate)$")
MODEL = re.compile(r"^(base_model|model|model_name)$")
VALUE = re.compile(r"(test_nll|test_loss|eval_loss|_optimal|^nll|^loss|^perplexity)$")
SETTING = re.compile(r"rank|batch|alpha|dropout|epochs|decay|warmup|target|dataset|data|task|language")
"""Columns in which two models must agree to be compared."""
BILLIONS = re.compile(r"(\d+(?:\.\d+)?)\s*[bB](?![a-zA-Z])")
WIDTH_OF_A_BILLION = 2048
"""Hidden size of a decoder with a billion weights; width grows with their cube root (within 5% for Llama 1B to 70B)."""
RULES = tuple(name for name in SCALING_RULES if name != "calibrated")
"""Rules that need nothing but the table."""
EDGE = 1.01
"""A rate this little beyond the table's is still one of it."""


def _knows(columns: Sequence[str]) -> bool:
    named = [any(pattern.search(column) for column in columns) for pattern in (RATE, MODEL, VALUE)]
    return all(named)


LIMITS = {True: (0.3, math.inf), False: (0.05, 0.15)}
"""What the default rule with its bracket may lose, in percent on average and at worst: of tables with curves, whose
values are perplexities of small validation parts, from the smallest model; of tables of final losses, of all pairs."""


def replay_rates(table: Table, options: argparse.Namespace) -> Told:
    """Carry learning rates over by every rule, and hold the default one against its limits.

    Raises:
        UnreadableTableError: nothing can be carried over in it, and it can be replayed in no other way.
    """
    del options  # nothing in it is drawn
    curved = has_curve(table.columns)
    try:
        pairs = pairs_of(table, smallest=curved)
    except UnreadableTableError as error:
        if not curved:
            raise
        return Told(text=[f"no transfer: {error}", ""])
    found = losses(pairs, TransferSpec())
    told = Told(figures=[{"table": table.name, **asdict(each)} for each in found])
    whence = "from the smallest model of a family" if curved else "within families"
    told.text = [
        f"{table.name}: the best rate carried over {whence}, {len(pairs)} pairs; % lost of the best, mean and worst",
        f"{'rule':<16}{'alone':>8}{'':>8}{'bracket':>9}{'':>8}{'runs':>7}",
        *(
            f"{each.rule:<16}{each.alone:>8.3f}{each.alone_worst:>8.2f}{each.bracket:>9.3f}{each.bracket_worst:>8.2f}"
            f"{each.runs:>7.1f}"
            for each in found
        ),
        "",
    ]
    mean, worst = LIMITS[curved]
    default = next(each for each in found if each.rule == TransferSpec().rule)
    if default.bracket > mean or default.bracket_worst > worst:
        lost = f"{default.bracket:.3f}% on average and {default.bracket_worst:.3f}% at worst"
        told.wrong.append(
            f"{table.name}: rule {default.rule} with its bracket loses {lost}, more than {mean} and {worst}"
        )
    return told


RATES = Kind(
    "rates",
    "`lr`, `model` (of several sizes) and a final loss, e.g. `test_nll` or `..._optimal`",
    _knows,
    replay_rates,
)


@dataclass(frozen=True)
class Model:
    """A model of the table: the family it is of, and its hidden size."""

    name: str
    family: str
    width: int


@dataclass(frozen=True)
class Pair:
    """A setting that was run on a small and on a large model: their values by learning rate, rising."""

    small: Model
    large: Model
    setting: tuple[str, ...]
    small_values: Mapping[float, float]
    large_values: Mapping[float, float]


@dataclass(frozen=True)
class Loss:
    """What a rule lost over all pairs, in percent of the large model's best value, and the runs that it took."""

    rule: str
    pairs: int
    alone: float
    alone_worst: float
    bracket: float
    bracket_worst: float
    runs: float


def pairs_of(table: Table, *, smallest: bool = False) -> list[Pair]:
    """Return every setting that was run on two models of one family and of different widths.

    Args:
        table: with learning rates and models.
        smallest: from the smallest model of each family alone.

    Raises:
        UnreadableTableError: there is no such setting.
    """
    values = _values(table)
    found = []
    for small, large in permutations(values, 2):
        family = [model.width for model in values if model.family == small.family]
        if small.family != large.family or small.width >= large.width or (smallest and small.width > min(family)):
            continue
        found += [
            Pair(small, large, setting, values[small][setting], values[large][setting])
            for setting in values[small].keys() & values[large].keys()
            if min(len(values[model][setting]) for model in (small, large)) > 1
        ]
    if not found:
        raise UnreadableTableError(f"{table.name}: no setting was run at several rates on two models of one family")
    return sorted(found, key=lambda pair: (pair.small.name, pair.large.name, pair.setting))


def losses(pairs: Sequence[Pair], transfer: TransferSpec) -> list[Loss]:
    """Carry the best rate of each small model over by every rule, alone and with the study's bracket."""
    return [_loss(rule, pairs, transfer.model_copy(update={"rule": rule, "rank_factor": 1.0})) for rule in RULES]


def _loss(rule: str, pairs: Sequence[Pair], transfer: TransferSpec) -> Loss:
    alone, bracket, runs = [], [], []
    for pair in pairs:
        on_large, best = _between(pair.large_values), min(pair.large_values.values())
        centre = _centre(pair, transfer)
        tried = _tried(pair, centre, on_large, transfer)
        alone.append(100 * (on_large(centre) / best - 1))
        bracket.append(100 * (min(tried.values()) / best - 1))
        runs.append(len(tried))
    return Loss(rule, len(pairs), fmean(alone), max(alone), fmean(bracket), max(bracket), fmean(runs))


def _centre(pair: Pair, transfer: TransferSpec) -> float:
    """The small model's best rate, carried over as the product does it; the rank is that of the setting."""
    rate = min(pair.small_values, key=lambda each: pair.small_values[each])
    small, large = (ModelFacts(family=m.family, hidden_size=m.width) for m in (pair.small, pair.large))
    carried = carry_over({"learning_rate": rate}, Hyperparameters(learning_rate=rate), small, large, transfer)
    return float(carried.parameters["learning_rate"])


def _tried(pair: Pair, centre: float, value: Callable[[float], float], transfer: TransferSpec) -> dict[float, float]:
    """What the verify stage would have tried, by factor: the bracket, and on from its edge while the best is there."""
    tried = {factor: value(centre * factor) for factor in factors(transfer.bracket, centre, pair.large.width)}
    low, high = min(pair.large_values) / EDGE, max(pair.large_values) * EDGE
    for _ in range(transfer.extend):
        edge = beyond(list(tried), min(tried, key=lambda factor: tried[factor]))
        if edge is None or not low <= centre * edge.factor <= high:
            break
        tried[edge.factor] = value(centre * edge.factor)
    return tried


def _between(values: Mapping[float, float]) -> Callable[[float], float]:
    """The value at any rate; one outside of the table has that of its end."""
    from scipy.interpolate import PchipInterpolator

    rates = sorted(values)
    curve = PchipInterpolator([math.log(rate) for rate in rates], [values[rate] for rate in rates])
    return lambda rate: float(curve(math.log(min(max(rate, rates[0]), rates[-1]))))


def _values(table: Table) -> dict[Model, dict[tuple[str, ...], dict[float, float]]]:
    """The mean value of each model, setting and rate."""
    rate, name, value = (_column(table, pattern) for pattern in (RATE, MODEL, VALUE))
    settings = [column for column in table.columns if SETTING.search(column)]
    found: dict[Model, dict[tuple[str, ...], dict[float, list[float]]]] = defaultdict(dict)
    for row in table.rows:
        setting = tuple(f"{column} {row[column]}" for column in settings)
        rates = found[_model(table, row, name)].setdefault(setting, {})
        rates.setdefault(float(row[rate]), []).append(float(row[value]))
    return {
        model: {s: {r: fmean(v) for r, v in sorted(rates.items())} for s, rates in by_setting.items()}
        for model, by_setting in found.items()
    }


def _model(table: Table, row: Row, column: str) -> Model:
    name = row[column]
    size = BILLIONS.search(name)
    if row.get("hidden_size"):
        width, of = int(row["hidden_size"]), f"{name} {row['hidden_size']}"
    elif size is not None:
        width, of = round(WIDTH_OF_A_BILLION * float(size.group(1)) ** (1 / 3)), name
    else:
        raise UnreadableTableError(f"{table.name}: how wide {name} is cannot be told; add a column hidden_size")
    return Model(of, _family(name), width)


def _family(name: str) -> str:
    """The name without what says the size or the version: models of one family are tuned alike."""
    return next(_words(name.rsplit("/", 1)[-1].lower()), name)


def _words(name: str) -> Iterator[str]:
    yield from (word for word in re.split(r"[^a-z]+", name) if word)


def _column(table: Table, pattern: re.Pattern[str]) -> str:
    return next(column for column in table.columns if pattern.search(column))
