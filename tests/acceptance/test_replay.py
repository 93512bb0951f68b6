"""The replay of tables, as it is started: which tables it takes, what it counts, and when a check fails."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "replay.py"
RATES = (1e-5, 1e-4, 1e-3)
RANKS = (4, 16, 64)


def replay(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *arguments]
    root = PROGRAM.parents[1]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=root)


@pytest.fixture(scope="module", name="table")
def make_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, nine configurations each, eight evaluations; 1e-4 is best, and a rank of 16."""
    lines = ["model,lora_rank,learning_rate,minutes,loss_curve"]
    for model in ("a", "b"):
        for rank in RANKS:
            for rate in RATES:
                end = 2 + 0.3 * abs(math.log10(rate / 1e-4)) + 0.05 * abs(math.log2(rank / 16))
                curve = " ".join(f"{end + math.exp(-at):.4f}" for at in range(1, 9))
                lines.append(f"{model},{rank},{rate},7,{curve}")
    path = tmp_path_factory.mktemp("tables") / "runs.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_policies_are_compared_over_the_searches_of_a_table(table: Path) -> None:
    policies = ("default", "no pruning", "Optuna's median", "early exit, all")
    done = replay("--json", "--seeds", "3", "--policy", *policies, "--", str(table))
    assert done.returncode == 0, done.stderr
    found = {each["policy"]: each for each in json.loads(done.stdout)}
    assert tuple(found) == policies
    assert all(each["replays"] == 2 * 3 for each in found.values())
    assert found["no pruning"]["compute"] == pytest.approx(5 / 9), "half of nine is five, each in full"
    assert found["no pruning"]["lost"] == 0
    assert found["default"]["compute"] < found["no pruning"]["compute"]
    assert found["early exit, all"]["regret"] == 0, "curves that never cross lose nobody"


def test_a_search_is_told_in_words_and_a_check_says_what_is_not_met(table: Path) -> None:
    done = replay("--check", "--seeds", "1", "--policy", "default", "--group", "lora_rank", "model", "--", str(table))
    assert done.returncode == 2
    assert "name with --group the columns that say on what a configuration was run" in done.stderr
    done = replay("--check", "--seeds", "2", "--policy", "default", "no pruning", "--", str(table))
    assert "runs.csv: 2 searches of 9 configurations (lora_rank, learning_rate), 2 seeds, 1 at once" in done.stdout
    assert done.returncode == 1
    assert "the default spends" in done.stderr


@pytest.mark.parametrize(
    "text,words",
    [
        (
            "model,rank,test_nll\nm,8,0.5\n",
            "are of no kind that is replayed (model, rank, test_nll). Known",
        ),
        ("model,lr,rank,test_nll\nm,1e-4,8,0.5\n", "how wide m is cannot be told; add a column hidden_size"),
        ("model,lr,test_nll\nm-1b,1e-4,0.5\nm-1b,1e-3,0.6\n", "no setting was run at several rates on two models"),
        ("lr,loss_curve\n", "has no rows"),
        ("lr,loss_curve\n1e-4,\n", "line 2: loss_curve has no numbers"),
        ("lr,loss_curve,nll_curve\n1e-4,1 2,1 2\n", "has several curves (loss_curve, nll_curve)"),
    ],
)
def test_a_table_that_cannot_be_replayed_is_refused_with_the_reason(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text, encoding="utf-8")
    done = replay(str(path))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_table_curves_are_made_up() -> None:
    done = replay("--seeds", "1", "--policy", "halving, random", "--parallel", "1", "4", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {each["table"] for each in found} >= {"fine-tuning", "from scratch", "crossing"}
    assert {each["parallel"] for each in found} == {1, 4}


def test_rates_are_carried_from_small_to_large_models_of_a_family(tmp_path: Path) -> None:
    rows = ["model,lr,rank,test_nll"]
    for size, best in ((1, -3.0), (8, -3.3)):
        rates = [-4.5 + i / 4 for i in range(9)]
        rows += [f"org/Kind-{size}B,{10**rate},16,{0.5 + 0.01 * (rate - best) ** 2}" for rate in rates]
    path = tmp_path / "sizes.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    done = replay("--check", "--json", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    found = {each["rule"]: each for each in json.loads(done.stdout)}
    assert {"width", "copy"} <= found.keys()
    assert all(each["pairs"] == 1 and each["bracket"] <= each["alone"] for each in found.values())
    assert found["width"]["alone"] < found["copy"]["alone"], "the best rate falls with the root of the width here"
