"""`study import`: sweep files of Weights & Biases become study files that validate and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.home import Home

SWEEPS = sorted((Path(__file__).parents[1] / "unit" / "domain" / "sweepfile" / "sweeps").glob("*.yaml"))
SCRIPT = """\
import json, sys, zlib
given = " ".join(sys.argv[1:])
assert "=" in given or ":" in given, given
value = zlib.crc32(given.encode()) / 2**32 + 0.1
for step in (1, 2, 3, 4):
    print(json.dumps({"step": step, "value": value + 1 / step, "fraction": step / 4}))
print(json.dumps({"result": value}))
"""
"""What stands for the script of each sweep: its value follows from all that it is given."""


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_file_is_imported_validated_and_run(sweep: Path, tmp_path: Path) -> None:
    home = Home(tmp_path)
    for script in ("train.py", "src/train.py", "python_entry.py", "finetune.py"):
        (tmp_path / script).parent.mkdir(exist_ok=True)
        (tmp_path / script).write_text(SCRIPT)
    done = home.run("study", "import", str(sweep), "--output", "mine.yaml")
    assert (done.returncode, done.stdout.startswith("mine.yaml is valid")) == (0, True), done.stderr
    assert all(line.startswith(f"note: {sweep}:") for line in done.stderr.splitlines())
    assert (tmp_path / "mine.yaml").read_text().startswith(f"# Made of {sweep.name}, a sweep file")
    assert home.run("study", "validate", "mine.yaml").returncode == 0
    run = home.run("run", "mine.yaml", "--workers", "1", "--json")
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert document["state"] == "finished"
    assert document["trials"]["search"].get("failed", 0) == 0
    home.clear()


def test_without_output_the_study_file_is_printed_and_json_has_the_remarks(tmp_path: Path) -> None:
    home = Home(tmp_path)
    printed = home.run("study", "import", str(SWEEPS[0]))
    (tmp_path / "mine.yaml").write_text(printed.stdout)
    assert home.run("study", "validate", "mine.yaml", "--quick").returncode == 0
    document = json.loads(home.run("study", "import", str(SWEEPS[0]), "--json").stdout)
    assert set(document) == {"study", "remarks"}
    assert set(document["remarks"][0]) == {"line", "key", "message"}


def test_what_is_no_sweep_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("name: x\nobjective: {python: 'a:b'}\n")
    done = Home(tmp_path).run("study", "import", "study.yaml")
    assert done.returncode == 2
    assert done.stderr == "error: study.yaml:1: is no sweep file: it has no `parameters`\n"
