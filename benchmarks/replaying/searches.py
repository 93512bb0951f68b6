"""Policies on the searches of a table with curves: figures in words, and whether the default is as asked for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from benchmarks.replaying.curves import Problem, has_curve, problems_of
from benchmarks.replaying.made import MADE, made
from benchmarks.replaying.policies import DEFAULT, Figures, figures
from benchmarks.replaying.table import Kind, Table, Told

COMPUTE, REGRET = 0.35, 0.30
"""What the default may spend of running everything, and lose on average, in percent."""
SEEDS, SEEDS_MADE_UP = 100, 10
"""Replays of each search: of a table, and of curves that are made up."""


def replay_table(table: Table, options: argparse.Namespace) -> Told:
    """Replay policies on the searches of a table.

    Raises:
        UnreadableTableError: it does not say what is searched.
    """
    return _replay({table.name: problems_of(table, options.group)}, options, options.seeds or SEEDS, limits=True)


def replay_made(options: argparse.Namespace) -> Told:
    """Replay policies on curves of all kinds that are made up."""
    return _replay({kind: made(kind) for kind in MADE}, options, options.seeds or SEEDS_MADE_UP, limits=False)


CURVES = Kind(
    "curves",
    "one `..._curve` (values with spaces between), `..._optimal` where the best counts",
    has_curve,
    replay_table,
)


def _replay(todo: Mapping[str, Sequence[Problem]], options: argparse.Namespace, seeds: int, *, limits: bool) -> Told:
    if options.apart:
        todo = {f"{name}, {each.name}": [each] for name, problems in todo.items() for each in problems}
    told = Told()
    for name, problems in todo.items():
        for parallel in options.parallel:
            found = [figures(name, problems, policy, seeds, parallel, options.budget) for policy in options.policy]
            told.text += _lines(found, problems)
            told.figures += [asdict(each) for each in found]
            told.wrong += failures(found, limits=limits)
    return told


def failures(found: Sequence[Figures], *, limits: bool) -> list[str]:
    """Say what was asked for and is not met.

    Args:
        found: of one table at one parallelism.
        limits: whether compute and regret have limits.
    """
    default = next((each for each in found if each.policy == DEFAULT), None)
    if default is None:
        return []
    told = []
    where = f"{default.table}, {default.parallel} at once"
    if limits and default.compute > COMPUTE:
        told.append(f"{where}: the default spends {default.compute:.3f} of running everything, more than {COMPUTE}")
    if limits and default.regret > REGRET:
        told.append(f"{where}: the default loses {default.regret:.3f}% on average, more than {REGRET}%")
    told += [
        f"{where}: {each.policy} is better in both, {each.compute:.3f} and {each.regret:.3f}%"
        for each in found
        if each.compute < default.compute and each.regret < default.regret
    ]
    return told


def _lines(found: Sequence[Figures], problems: Sequence[Problem]) -> list[str]:
    first = found[0]
    space = ", ".join(problems[0].space.parameters)
    sizes = sorted({len(problem.configurations) for problem in problems})
    size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    searches = f"{len(problems)} searches of {size} configurations ({space})"
    rows = [
        f"{each.policy:<30}{each.compute:>9.3f}{each.regret:>10.3f}{each.worst:>8.2f}{each.lost:>13.0%}"
        for each in found
    ]
    return [
        f"{first.table}: {searches}, {first.replays // len(problems)} seeds, {first.parallel} at once",
        f"{'':<30}{'compute':>9}{'regret %':>10}{'max %':>8}{'winner lost':>13}",
        *rows,
        "",
    ]
