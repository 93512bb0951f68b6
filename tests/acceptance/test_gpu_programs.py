"""The programs for a GPU run on a CPU too, so that the one hour with a GPU is not spent on their mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[2] / "benchmarks" / "gpu"
SECONDS = 560.0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", ["packed", "killed"])
def test_a_scenario_is_played_to_its_end(scenario: str, tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAMS / "proof.py"), "--smoke", "--only", scenario, "two_workers", "--check"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = {result["name"]: result for result in json.loads((tmp_path / "proof.json").read_text())["results"]}
    assert results[scenario]["passed"] is True
    assert results["two_workers"]["passed"] is None
    assert results["two_workers"]["said"] == "needs a GPU: not run"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_whole_search_is_taken_apart_into_factors_whose_product_is_the_ratio(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAMS / "search.py"), "--smoke", "--trials", "2", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads((tmp_path / "search.json").read_text())
    figures = seen["figures"]
    product = figures["search"] * figures["residency"] * figures["pruning"] * figures["rest"]
    assert product == pytest.approx(figures["ratio"])
    assert figures["ratio"] == pytest.approx(sum(seen["plain"]["whole"]) / seen["ours"]["seconds"])
    assert len(seen["plain"]["losses"]) == 2
