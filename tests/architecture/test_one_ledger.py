"""Trials are written in one place: whoever else holds their stores, or Optuna's studies, only reads."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo_service.search.studies import OptunaStudies
from hpo_service.service.trials.ledger import TrialLedger
from hpo_service.storage.trial.attempts import AttemptStore
from hpo_service.storage.trial.reports import ReportStore
from hpo_service.storage.trial.scores import ScoreStore
from hpo_service.storage.trial.tallies import TallyStore
from hpo_service.storage.trial.trials import TrialStore

PACKAGE = Path(__file__).parents[2] / "hpo_service"
LEDGER = PACKAGE / "service" / "trials" / "ledger.py"

READ: dict[type, set[str]] = {
    TrialStore: {"get", "among", "numbered", "list", "find_key", "complete_facts", "expired"},
    TallyStore: {
        "total",
        "keys",
        "has",
        "revivable",
        "own_seconds",
        "numbered",
        "of_ended",
        "best",
        "complete",
        "open_or_new",
        "run_seconds",
        "to_run",
        "leases",
    },
    AttemptStore: {"of", "of_lease", "in_study", "spent_on", "device_seconds", "seconds_to_first_report"},
    ReportStore: {"of", "of_many", "in_study", "last_value", "latest", "marks", "curves"},
    ScoreStore: {"load"},
    OptunaStudies: {"exists", "changed_attributes"},
}
OUR_BOOK_ALONE: dict[type, set[str]] = {
    # leases, and plans of trials that nobody took yet, are not in Optuna's study
    TrialStore: {"plan", "hold", "extend", "shorten_leases"},
    # tables are made by the migration, before there are trials
    OptunaStudies: {"create_tables"},
}
LEDGERS: dict[type, set[str]] = {
    TrialStore: {"admit", "claim_waiting", "bind", "settle", "requeue", "cancel", "forgive", "retry"},
    AttemptStore: {"open", "close"},
    ReportStore: {"add"},
    ScoreStore: {"save"},
    OptunaStudies: {"create", "delete", "add_running", "report", "add_reports", "finish", "set_attributes"},
}
NAMES = {"trials", "trial_rows", "attempts", "reports", "scores", "score_rows", "optuna"}
"""What stores are called wherever they are held."""


@pytest.mark.parametrize("store", READ, ids=lambda store: store.__name__)
def test_every_method_of_a_store_either_reads_or_has_a_writer(store: type) -> None:
    public = {name for name, _ in inspect.getmembers(store, callable) if not name.startswith("_")}
    classified = [table.get(store, set()) for table in (READ, OUR_BOOK_ALONE, LEDGERS)]
    assert public == set().union(*classified)
    assert len(public) == sum(map(len, classified))


def written_in(path: Path) -> Iterator[str]:
    """Calls such as `self.trials.settle(...)`: a writing method of something that is called like a store."""
    writing = set().union(*LEDGERS.values())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in writing:
            holder = node.func.value
            name = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
            if name in NAMES:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno} {name}.{node.func.attr}"


def test_only_the_ledger_writes_trials() -> None:
    outside = [
        path for path in sorted(PACKAGE.rglob("*.py")) if path != LEDGER and PACKAGE / "storage" not in path.parents
    ]
    assert [call for path in outside for call in written_in(path)] == []


def test_the_ledger_is_seen_to_write() -> None:
    assert {call.rpartition(".")[2] for call in written_in(LEDGER)} >= LEDGERS[TrialStore] | LEDGERS[OptunaStudies]


def test_the_ledger_holds_both_books_and_nothing_else() -> None:
    assert set(TrialLedger.__dataclass_fields__) == {"trials", "optuna"}
