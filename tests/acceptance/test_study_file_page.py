"""The page about study files says what the models say, and its examples are valid."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpo_service.domain.study.sources import Surroundings
from hpo_service.domain.studyfile.reader import read_study

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "study-file.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
AROUND = Surroundings(absolute=lambda name: f"/here/{name}", exists=lambda path: True, architecture=lambda path: None)
REST = {
    "name": "name: x\n",
    "model": "model: {base: a/b}\n",
    "data": "data: {source: a/b}\n",
}


def test_the_reference_is_up_to_date():
    program = str(ROOT / "docs" / "study_file_reference.py")
    done = subprocess.run([sys.executable, program, "--check"], check=False, timeout=60)
    assert done.returncode == 0, "run docs/study_file_reference.py"


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_valid_with_what_it_leaves_out(example):
    rest = "".join(text for key, text in REST.items() if not re.search(rf"^{key}:", example, flags=re.MULTILINE))
    study = read_study(example + rest, "example.yaml", AROUND)
    assert study.warnings == []


def test_there_are_examples():
    assert len(EXAMPLES) == 4
