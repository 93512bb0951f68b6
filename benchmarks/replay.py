"""What search policies would have done to runs that were made once: compute spent, regret, winners lost.

    python benchmarks/replay.py TABLE.csv
    python benchmarks/replay.py --check TABLE.csv OTHER.csv
    python benchmarks/replay.py --seeds 20 --parallel 1 4 8 --json

A table with curves has a run in each row: columns of hyper-parameters, columns that say on what it was run (model,
data; each combination is a search of its own), and a column `..._curve` with its value at every evaluation. Where there
is a column `..._optimal` a run counts with its best evaluation, otherwise with its last one, as the product counts it.
Without a table curves of several kinds are made up.

Each search is replayed with many seeds. The product's sampler asks for configurations of the table, each follows its
curve, the product's pruner (or one of Optuna's) may stop it, and the best complete one is chosen. Compute is counted in
evaluations, as a share of running every configuration; regret is in percent of the best value of all.

`--check` fails where the default spends more than 0.35 of running everything, or loses more than 0.30% on average
(both of tables given by path), or where another policy is better in both.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.replaying.curves import CURVES, Problem, problems_of
from benchmarks.replaying.made import MADE, made
from benchmarks.replaying.policies import DEFAULT, OTHERS, POLICIES, Figures, figures
from benchmarks.replaying.table import UnreadableTableError, kind_of, read_table

COMPUTE, REGRET = 0.35, 0.30
"""What the default may spend of running everything, and lose on average, in percent."""
KINDS = (CURVES,)
"""Kinds of tables that are replayed; the first that knows a table's columns takes it."""


def searches(paths: Sequence[Path], groups: Sequence[str]) -> dict[str, list[Problem]]:
    """Read what is searched, by table; without tables it is made up.

    Raises:
        UnreadableTableError: a table is not there, or of no kind that is known.
    """
    if not paths:
        return {kind: made(kind) for kind in MADE}
    tables = [read_table(path) for path in paths]
    for table in tables:
        kind_of(table, KINDS)
    return {table.name: problems_of(table, groups) for table in tables}


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


def _print(found: Sequence[Figures], problems: Sequence[Problem]) -> None:
    first = found[0]
    space = ", ".join(problems[0].space.parameters)
    sizes = sorted({len(problem.configurations) for problem in problems})
    size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    searches = f"{len(problems)} searches of {size} configurations ({space})"
    print(f"{first.table}: {searches}, {first.replays // len(problems)} seeds, {first.parallel} at once")
    print(f"{'':<30}{'compute':>9}{'regret %':>10}{'max %':>8}{'winner lost':>13}")
    for each in found:
        print(f"{each.policy:<30}{each.compute:>9.3f}{each.regret:>10.3f}{each.worst:>8.2f}{each.lost:>13.0%}")
    print()


def main(arguments: list[str]) -> int:
    """Replay, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", metavar="TABLE", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, help="replays of each search; 100 of tables, 10 of curves made up")
    parser.add_argument("--parallel", type=int, nargs="+", default=[1], help="trials side by side")
    parser.add_argument("--policy", nargs="+", choices=[*POLICIES, *OTHERS], default=list(POLICIES))
    parser.add_argument("--group", nargs="+", default=[], help="columns that say on what a configuration was run")
    parser.add_argument("--apart", action="store_true", help="figures of each search by itself")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit 1 where the default is not as asked for")
    options = parser.parse_args(arguments)
    try:
        todo = searches(options.tables, options.group)
    except UnreadableTableError as error:
        print(error, file=sys.stderr)
        return 2
    if options.apart:
        todo = {f"{table}, {each.name}": [each] for table, problems in todo.items() for each in problems}
    seeds = options.seeds or (100 if options.tables else 10)
    everything: list[Figures] = []
    wrong: list[str] = []
    for table, problems in todo.items():
        for parallel in options.parallel:
            found = [figures(table, problems, policy, seeds, parallel) for policy in options.policy]
            everything += found
            wrong += failures(found, limits=bool(options.tables))
            if not options.json:
                _print(found, problems)
    if options.json:
        print(json.dumps([asdict(each) for each in everything], indent=2))
    if options.check:
        for each in wrong:
            print(each, file=sys.stderr)
    return int(options.check and bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
