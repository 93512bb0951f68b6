"""Measures the table that `benchmarks/search.py` has the quickstart from: its search trials, trained once.

    python benchmarks/searching/measure.py --trials 240

Configurations come from a scrambled Halton sequence over the quickstart's own space, so that they fill it; each is
trained as its search stage trains it, with the one seed that a search has, and its validation loss (nats per token) is
a row of `quickstart.csv`. Rows that are there already are kept and the sequence goes on after them.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.packing import QUICKSTART, Bench
from benchmarks.transfer import Listener
from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.search.quasirandom import halton

TABLE = Path(__file__).parent / "quickstart.csv"
SEED = 20261126
"""Of the sequence; no search uses it."""
AT_ONCE = 16


def main(arguments: list[str]) -> int:
    """Train what is missing, a few at a time, and write after each."""
    from platformdirs import user_cache_dir

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=240)
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_args(arguments)
    study = StudySpec.model_validate(YAML(typ="safe").load(QUICKSTART))
    space = study.space.resolve()
    done = max(0, len(options.table.read_text().splitlines()) - 1) if options.table.exists() else 0
    bench = Bench(Path(os.environ.get("HPO_SERVICE_CACHE") or user_cache_dir("hpo-service")))
    while done < options.trials:
        count = min(AT_ONCE, options.trials - done)
        configurations = list(itertools.islice(halton(space, seed=SEED, start=done), count))
        values = _trained(bench, study, configurations)
        with options.table.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not done:
                writer.writerow([*space.parameters, "validation_loss"])
            for configuration, value in zip(configurations, values, strict=True):
                writer.writerow([f"{each:.6g}" for each in configuration.values()] + [f"{value:.6f}"])
        done += count
        print(f"{done} of {options.trials}", flush=True)
    return 0


def search_trials(
    study: StudySpec, configurations: Sequence[Mapping[str, ParameterValue]], *, evaluations: int, share: float = 1.0
) -> list[TrialConfig]:
    """Configurations as a study's search stage trains them on a share of the rows, to the end, evaluated so often."""
    assert study.model is not None
    assert study.data is not None
    fixed = {**study.training.model_dump(exclude_unset=True), "evaluations_per_epoch": evaluations, "patience": 0}
    return [
        TrialConfig(
            study=study.name,
            stage="search",
            parameters=dict(configuration),
            seed=study.search.seed,
            model=study.model,
            model_name=study.model.base,
            data=study.data,
            training=TrainingSpec.model_validate({**fixed, **configuration}),
            share=share,
        )
        for configuration in configurations
    ]


def _trained(bench: Bench, study: StudySpec, configurations: list[dict[str, ParameterValue]]) -> list[float]:
    trials = search_trials(study, configurations, evaluations=1)
    with tempfile.TemporaryDirectory() as folder:
        heard: Any = Listener(trials, Path(folder))
        bench.serve(heard)
    return [heard.values[name] for name in sorted(heard.values)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
