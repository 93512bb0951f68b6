"""What importing and constructing cost: no Optuna before it is needed, never torch, no connection."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from hpo_service.search.policy import SearchPolicy
from hpo_service.search.studies import OptunaStudies
assert "optuna" not in sys.modules, "optuna is loaded on import"

class Source:
    def __call__(self):
        raise AssertionError("the database is touched")
    def remove(self):
        pass

studies = OptunaStudies("postgresql+psycopg://nobody@127.0.0.1:1/none", Source())
policy = SearchPolicy("postgresql+psycopg://nobody@127.0.0.1:1/none", Source())
assert "optuna" not in sys.modules, "optuna is loaded by the constructor"

from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.study.sections.space import SpaceSpec
import hpo_service.search.pruners
assert policy.suggest("s/search", SearchSpec(sampler="random"), SpaceSpec().resolve(), lambda key: False, 0)
assert "optuna" in sys.modules
heavy = {"torch", "scipy", "transformers", "pandas", "sklearn", "plotly"} & set(sys.modules)
assert not heavy, heavy
"""


def test_a_fresh_interpreter_loads_optuna_late_and_torch_never() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
