"""Searching on a share of the rows beside stopping runs early: what each loses on the quickstart at like compute.

    python benchmarks/row_share.py                      # some ten minutes on two cores
    python benchmarks/row_share.py --family lines       # another model, other rows: half an hour
    python benchmarks/row_share.py --table runs.csv     # the whole runs as a table for benchmarks/replay.py
    python benchmarks/row_share.py --smoke              # few configurations, to see that it works

Configurations that fill the quickstart's space are each trained on all rows, with a curve of eight evaluations, and on
a share of them with a whole schedule. A search on the share takes as many of them at random as compute allows, runs the
best again on all rows with the learning rate for as many (`for_all_rows`), and chooses the best of those runs; every
one of these runs is really made. A search that stops runs early is the product's default pruner, and halving, on
the curves: `benchmarks/replay.py` of the table that `--table` writes.

Families: `quickstart` is its search, docstrings on llama-tiny; `lines` has llama-small, four times as large, write the
next line of source code that neither model was pre-trained on, twice as many rows.

Compute is in whole runs, as a share of running every configuration; regret in percent of the lowest loss of all.
`--check` fails where a share does not rank the configurations as all rows do. What this does not show: one seed of
training.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.packing import QUICKSTART, Bench
from benchmarks.searching.measure import search_trials
from benchmarks.solo import quiet
from benchmarks.transfer import Listener
from hpo_service.domain.decide.transfer.row_share import for_all_rows
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.search.quasirandom import halton
from hpo_service.training.builtin.corpus import source_documents
from hpo_service.wire.messages import Reported

SEED = 20261127
EVALUATIONS = 8
AT_ONCE = 9
DRAWS = 200
LEAST_CORRELATION = 0.7
PRETRAINED_CHARS = 3_000_000
LINES = 2000
Configuration = Mapping[str, ParameterValue]


class Curves(Listener):
    """Keeps the values of every evaluation, too."""

    def __init__(self, trials: list[TrialConfig], folder: Path) -> None:
        super().__init__(trials, folder)
        self.curves: dict[str, list[float]] = {}

    def send(self, message: Any) -> None:
        """Hear the engine."""
        super().send(message)
        if isinstance(message, Reported):
            self.curves.setdefault(message.trial, []).append(message.report.value)


def trained(bench: Bench, study: StudySpec, configurations: Sequence[Configuration], share: float) -> list[list[float]]:
    """Train configurations on a share of the rows; return the curve of each, in nats a token."""
    found: list[list[float]] = []
    for begin in range(0, len(configurations), AT_ONCE):
        some = configurations[begin : begin + AT_ONCE]
        trials = search_trials(study, some, evaluations=EVALUATIONS, share=share)
        with tempfile.TemporaryDirectory() as folder:
            heard: Any = Curves(trials, Path(folder))
            bench.serve(heard)
        found += [[*heard.curves[name][: EVALUATIONS - 1], heard.values[name]] for name in sorted(heard.values)]
        print(f"{len(found)} of {len(configurations)} on {share:.0%} of the rows", file=sys.stderr, flush=True)
    return found


def searches(
    whole: Sequence[float], small: Sequence[float], again: Sequence[float], share: float, kept: int, compute: float
) -> dict[str, float]:
    """Search on the share with many draws of configurations; return what that costs and loses.

    Args:
        whole: final losses of all configurations on all rows.
        small: those on the share.
        again: those on all rows, with the learning rate that is right for them as seen on the share.
        share: of the rows.
        kept: how many are run again.
        compute: that may be spent, as a share of running every configuration on all rows.
    """
    count, draw = len(whole), random.Random(SEED)
    tried = max(kept, min(count, int((compute * count - kept) / share)))
    lost = []
    for _ in range(DRAWS):
        some = draw.sample(range(count), tried)
        best = sorted(some, key=lambda index: small[index])[:kept]
        lost.append(100 * (min(again[index] for index in best) / min(whole) - 1))
    return {
        "share": share,
        "tried": tried,
        "compute": (tried * share + kept) / count,
        "regret": statistics.mean(lost),
        "most": max(lost),
    }


def quickstart(folder: Path) -> StudySpec:  # noqa: ARG001
    """The quickstart's study."""
    return StudySpec.model_validate(YAML(typ="safe").load(QUICKSTART))


def lines(folder: Path) -> StudySpec:
    """A study of llama-small on the next line of code, whose rows are written into the folder."""
    document = YAML(typ="safe").load(QUICKSTART)
    used = len(source_documents(PRETRAINED_CHARS))
    rows = [row for text in source_documents(8 * PRETRAINED_CHARS)[used:] for row in next_lines(text)]
    random.Random(SEED).shuffle(rows)
    source = folder / "lines.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows[:LINES]))
    document["model"] = {"base": "builtin:llama-small"}
    document["data"] |= {"source": str(source), "max_rows": None}
    document["space"]["parameters"]["learning_rate"] = {"low": 2e-4, "high": 1e-2, "log": True}
    del document["transfer"]
    return StudySpec.model_validate(document)


def next_lines(text: str) -> list[dict[str, str]]:
    """Rows of a source file: at every tenth place two lines of code, and the third to be written."""
    code = [line.rstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [
        {"prompt": f"{first}\n{second}\n", "completion": third.strip()}
        for first, second, third in list(zip(code, code[1:], code[2:], strict=False))[::10]
    ]


FAMILIES = {"quickstart": quickstart, "lines": lines}


def write_table(path: Path, configurations: Sequence[Configuration], curves: Sequence[Sequence[float]]) -> None:
    """Write whole runs as `benchmarks/replay.py` reads them."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*configurations[0], "loss_curve"])
        for each, curve in zip(configurations, curves, strict=True):
            writer.writerow([*(f"{value:.6g}" for value in each.values()), " ".join(f"{v:.6f}" for v in curve)])


def main() -> int:
    """Train, search, print."""
    from platformdirs import user_cache_dir
    from scipy.stats import spearmanr

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=FAMILIES, default="quickstart", help="what is trained (quickstart)")
    parser.add_argument("--configurations", type=int, default=27, help="that are trained (27)")
    parser.add_argument("--share", type=float, nargs="+", default=[0.3], help="of the rows (0.3)")
    parser.add_argument("--kept", type=int, default=3, help="configurations that are run again on all rows (3)")
    parser.add_argument("--compute", type=float, default=0.38, help="of running all on all rows (0.38)")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the whole runs there")
    parser.add_argument("--smoke", action="store_true", help="few configurations")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help=f"exit 1 below a correlation of {LEAST_CORRELATION}")
    options = parser.parse_args()
    quiet()
    made = tempfile.TemporaryDirectory()
    study = FAMILIES[options.family](Path(made.name))
    count = 6 if options.smoke else options.configurations
    configurations = list(itertools.islice(halton(study.space.resolve(), seed=SEED, start=0), count))
    bench = Bench(Path(os.environ.get("HPO_SERVICE_CACHE") or user_cache_dir("hpo-service")))
    curves = trained(bench, study, configurations, 1.0)
    whole = [curve[-1] for curve in curves]
    if options.table:
        write_table(options.table, configurations, curves)
    found = []
    for share in options.share:
        small = [curve[-1] for curve in trained(bench, study, configurations, share)]
        corrected = [for_all_rows(study, each, share)[0] for each in configurations]
        again = [curve[-1] for curve in trained(bench, study, corrected, 1.0)]
        correlation = float(spearmanr(small, whole).statistic)
        of_searches = searches(whole, small, again, share, options.kept, options.compute)
        found.append({**of_searches, "rank_correlation": correlation})
    failed = options.check and any(row["rank_correlation"] < LEAST_CORRELATION for row in found)
    if options.json:
        print(json.dumps(found, indent=2))
    for row in [] if options.json else found:
        print(
            f"{row['share']:.0%} of the rows: {row['tried']:.0f} of {count} tried, compute {row['compute']:.3f}, "
            f"regret {row['regret']:.3f}% (at most {row['most']:.2f}%), "
            f"rank correlation with all rows {row['rank_correlation']:.2f}"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
