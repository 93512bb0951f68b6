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
from pathlib import Path

from benchmarks.replaying.policies import HALF, OTHERS, POLICIES
from benchmarks.replaying.rates import RATES
from benchmarks.replaying.searches import CURVES, replay_made
from benchmarks.replaying.table import Told, UnreadableTableError, kinds_of, read_table

KINDS = (CURVES, RATES)
"""Kinds of tables that are replayed; a table may be of several."""


def _replayed(options: argparse.Namespace) -> Told:
    """Replay every table as its kind is; all are read before the first is replayed."""
    if not options.tables:
        return replay_made(options)
    tables = [read_table(path) for path in options.tables]
    kinds = [kinds_of(table, KINDS) for table in tables]
    told = Told()
    for table, known in zip(tables, kinds, strict=True):
        for kind in known:
            told.add(kind.replay(table, options))
    return told


def main(arguments: list[str]) -> int:
    """Replay, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", metavar="TABLE", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, help="replays of each search; 100 of tables, 10 of curves made up")
    parser.add_argument("--parallel", type=int, nargs="+", default=[1], help="trials side by side")
    parser.add_argument("--policy", nargs="+", choices=[*POLICIES, *OTHERS], default=list(POLICIES))
    parser.add_argument("--budget", type=float, default=HALF, help="share of the configurations that is tried")
    parser.add_argument("--group", nargs="+", default=[], help="columns that say on what a configuration was run")
    parser.add_argument("--apart", action="store_true", help="figures of each search by itself")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit 1 where the default is not as asked for")
    options = parser.parse_args(arguments)
    try:
        told = _replayed(options)
    except UnreadableTableError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(told.figures, indent=2) if options.json else "\n".join(told.text))
    if options.check and told.wrong:
        print("\n".join(told.wrong), file=sys.stderr)
    return int(options.check and bool(told.wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
