"""Tables with curves: runs of every configuration, evaluation by evaluation, in groups that are searched apart."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from benchmarks.replaying.table import Table, UnreadableTableError
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import CategoricalParameter, FloatParameter, ParameterValue, SearchSpace

FEWEST = 4
"""Configurations that a group must have to be searched."""
LOG_FROM = 4.0
"""A column of positive numbers is searched in the logarithm where the largest is so many times the smallest."""

DESCRIBES = frozenset(
    [
        *("dataset", "data", "task", "language", "train_examples", "examples", "max_len", "max_length", "tokens"),
        *("base_model", "model", "model_name", "family", "hidden_size", "num_layers", "num_params", "model_size"),
    ]
)
"""Columns that say on what a configuration was run: each of their combinations is a search of its own."""
_RESULT = re.compile(r"loss|perplexity|nll|ppl|bleu|chrf|accuracy|acc\b|score|wall|minutes|seconds|hours|time|steps?$")
_NUMBER = re.compile(r"[-+]?(?:nan|inf(?:inity)?|\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?)", re.IGNORECASE)
_MORE_IS_BETTER = re.compile(r"accuracy|acc(_|$)|bleu|chrf|f1|score")

Configuration = Mapping[str, ParameterValue]


def has_curve(columns: Sequence[str]) -> bool:
    """Whether a column holds curves."""
    return any(column.endswith("_curve") or column == "curve" for column in columns)


@dataclass(frozen=True)
class Run:
    """What one run reported at each of its evaluations; it counts with the last."""

    reports: Sequence[float]

    @property
    def value(self) -> float:
        """What it counts with."""
        return self.reports[-1]

    @property
    def cost(self) -> int:
        """Evaluations it took."""
        return len(self.reports)


@dataclass(frozen=True)
class Problem:
    """One search: configurations, each with its runs (several where it was repeated).

    Attributes:
        name: of the group.
        space: what is searched.
        configurations: in the order of the table.
        runs: of each configuration.
        direction: which values are better.
    """

    name: str
    space: SearchSpace
    configurations: Sequence[Configuration]
    runs: Sequence[Sequence[Run]]
    direction: Direction = Direction.MINIMIZE

    @cached_property
    def values(self) -> list[float]:
        """The value of each configuration: the mean over its runs."""
        return [math.fsum(run.value for run in runs) / len(runs) for runs in self.runs]

    @cached_property
    def best(self) -> float:
        """The best value of all."""
        return min(self.values, key=self.direction.badness)

    @cached_property
    def cost(self) -> float:
        """Evaluations that running every configuration once takes."""
        return sum(sum(run.cost for run in runs) / len(runs) for runs in self.runs)

    def regret(self, configuration: int) -> float:
        """How much worse a configuration is than the best, in percent of the best value."""
        return 100.0 * abs(self.values[configuration] - self.best) / abs(self.best)


def run_of(values: Sequence[float], *, best_counts: bool = False, direction: Direction = Direction.MINIMIZE) -> Run:
    """Make a run of its values, one an evaluation.

    The product counts a run with its last evaluation. Where the best counts, because the run kept its best checkpoint,
    it reports at each evaluation what it would count with if it ended there: the best so far.
    """

    def better(one: float, other: float) -> float:
        return other if direction.badness(other) < direction.badness(one) else one

    return Run(list(accumulate(values, better)) if best_counts else values)


def problems_of(table: Table, groups: Sequence[str] = ()) -> list[Problem]:
    """Read the searches in a table.

    Args:
        table: with one column of curves.
        groups: columns that say on what a configuration was run; by default those in `DESCRIBES`.

    Raises:
        UnreadableTableError: the columns do not say what is searched, or a curve is no list of numbers.
    """
    curve = _curve_column(table)
    unknown = [name for name in groups if name not in table.columns]
    if unknown:
        raise UnreadableTableError(f"{table.name}: has no column {', '.join(unknown)}; name one of its own as --group")
    stem = curve.removesuffix("curve")
    best_counts = f"{stem}optimal" in table.columns
    direction = Direction.MAXIMIZE if _MORE_IS_BETTER.search(stem) else Direction.MINIMIZE
    on_what = [name for name in table.columns if name in (groups or DESCRIBES)]
    searched = [
        name
        for name in table.columns
        if name not in {*on_what, curve, "seed"} and not _RESULT.search(name) and name != f"{stem}optimal"
    ]
    found: dict[tuple[str, ...], dict[tuple[ParameterValue, ...], list[Run]]] = {}
    for number, row in enumerate(table.rows, start=2):
        values = _values(row[curve])
        if not values:
            raise UnreadableTableError(f"{table.name}, line {number}: {curve} has no numbers; write them with spaces")
        group = found.setdefault(tuple(row[name] for name in on_what), {})
        run = run_of(values, best_counts=best_counts, direction=direction)
        group.setdefault(tuple(_number(row[name]) for name in searched), []).append(run)
    return [_problem(table, on_what, key, searched, group, direction) for key, group in found.items()]


def _curve_column(table: Table) -> str:
    found = [column for column in table.columns if has_curve([column])]
    if len(found) > 1:
        raise UnreadableTableError(f"{table.name}: has several curves ({', '.join(found)}); leave the one that counts")
    return found[0]


def _problem(
    table: Table,
    on_what: Sequence[str],
    key: Sequence[str],
    searched: Sequence[str],
    group: Mapping[tuple[ParameterValue, ...], list[Run]],
    direction: Direction,
) -> Problem:
    differing = [at for at in range(len(searched)) if len({values[at] for values in group}) > 1]
    varied = {name for name in on_what if len({row[name] for row in table.rows}) > 1}
    name = " ".join(value for column, value in zip(on_what, key, strict=True) if column in varied) or table.name
    if len(group) < FEWEST or not differing:
        reason = f"{name} has only {len(group)} configurations of {', '.join(searched) or 'nothing'}"
        raise UnreadableTableError(
            f"{table.name}: {reason}; name with --group the columns that say on what a configuration was run"
        )
    columns = {searched[at]: [values[at] for values in group] for at in differing}
    configurations = [{searched[at]: values[at] for at in differing} for values in group]
    space = SearchSpace(parameters={name: _parameter(values) for name, values in columns.items()})
    return Problem(name, space, configurations, list(group.values()), direction)


def _parameter(values: Sequence[ParameterValue]) -> FloatParameter | CategoricalParameter:
    numbers = [float(value) for value in values if not isinstance(value, str)]
    if len(numbers) < len(values):
        return CategoricalParameter(choices=list(dict.fromkeys(values)))
    low, high = min(numbers), max(numbers)
    return FloatParameter(low=low, high=high, log=low > 0 and high / low >= LOG_FROM)


def _values(cell: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(cell or "")]


def _number(cell: str) -> ParameterValue:
    try:
        return float(cell)
    except ValueError:
        return cell
