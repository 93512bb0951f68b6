"""A wired service on each database, and short ways to say what a worker does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.decide.placement import NOT_TOLD, Resources
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.assignment import Assignment
from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.scores import Scores
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.service.trials.placement import Placement
from hpo_service.service.trials.queue import Copied, TrialQueue
from hpo_service.settings import Settings
from hpo_service.storage.studies import StudyRow
from hpo_service.storage.trial.trials import TrialRow
from tests.pauses import let_pass


@dataclass
class Bench:
    """A service with one registered worker, driven by hand."""

    service: Service
    worker: str = "w1"

    def create(self, **sections: Any) -> StudyRow:
        """Create a study of two parameters; sections are merged over that."""
        given: dict[str, Any] = {
            "name": "s",
            "objective": {"python": "nobody:calls_it"},
            "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}}},
            "search": {"budget": {"trials": 4}, "pruner": "none"},
            "confirm": {"enabled": False},
        }
        return self.service.studies.create(StudySpec.model_validate({**given, **sections}))

    def register(self, worker: str, has: Resources = NOT_TOLD) -> str:
        with self.service.db.transaction():
            self.service.worker_rows.register(worker, "host", 1, "0", "cpu", resources=has)
        return worker

    def with_resources(self, has: Resources, clock: Callable[[], float] = lambda: 0.0) -> TrialQueue:
        """The queue as a worker meets it that has so much."""
        made = self.service
        return replace(made.queue, placement=Placement(made.db, made.study_rows, made.worker_rows, has, clock))

    def claim(self, worker: str | None = None) -> Assignment | None:
        """Claim as a worker does that has waited out the pauses after errors, going on after copies."""
        let_pass(self.service.db)
        return self.claim_now(worker)

    def claim_now(self, worker: str | None = None) -> Assignment | None:
        while isinstance(claimed := self.service.queue.claim(worker or self.worker), Copied):
            pass
        return claimed

    def must_claim(self, worker: str | None = None) -> Assignment:
        assignment = self.claim(worker)
        assert assignment is not None
        return assignment

    def report(
        self, assignment: Assignment, step: int, value: float, fraction: float = 0.5, **metrics: float
    ) -> Decision:
        report = Report(step=step, fraction=fraction, value=value, metrics=metrics)
        return self.service.queue.report(assignment.lease, report)

    def complete(self, assignment: Assignment, value: float = 1.0, **more: Any) -> TrialState:
        outcome = Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=value, **more)
        return self.service.queue.finish(assignment.lease, outcome)

    def end(self, assignment: Assignment, kind: OutcomeKind, **more: Any) -> TrialState:
        return self.service.queue.finish(assignment.lease, Outcome(kind=kind, reason=f"ended as {kind}", **more))

    def run_out(self, assignment: Assignment) -> None:
        """Let the lease end now, as if the worker had been silent for its whole length."""
        with self.service.db.transaction():
            self.service.trial_rows.extend(assignment.lease, -1.0)

    def trial(self, assignment: Assignment) -> TrialRow:
        with self.service.db.transaction():
            return self.service.trial_rows.get(assignment.lease.trial_id)

    def trials(self, stage: str = "search", study: str = "s") -> list[Any]:
        view = self.service.reader.snapshot(study).stage(stage)
        assert view is not None
        return view.trials

    def state(self, study: str = "s") -> StudyState:
        return self.service.reader.snapshot(study).state

    def drain_queue(self, value: Callable[[Assignment], float] = lambda a: float(a.number)) -> int:
        """Claim and complete everything there is, with one evaluation each; return how many."""
        count = 0
        while (assignment := self.claim()) is not None or self.service.stages.advance_all():
            if assignment is None:
                continue
            measured = value(assignment)
            self.report(assignment, 1, measured, 1.0)
            scores = Scores(nll=[measured, measured], tokens=[1, 1])
            self.complete(assignment, measured, validation=scores, test=scores)
            count += 1
        return count


class Trained(dict[str, Any]):
    """Sections of a study of the built-in trainer, and the facts a child would find out about its models."""

    facts = {
        "org/small": ModelFacts(family="llama", hidden_size=64),
        "org/large": ModelFacts(family="llama", hidden_size=256),
    }


@pytest.fixture
def trained() -> Trained:
    return Trained(
        objective=None,
        model={"base": "org/small", "target": "org/large"},
        data={"source": "org/rows"},
        space={"preset": "minimal"},
        transfer={"control": False, "extend": 0},
        confirm={"seeds": 2},
    )


@pytest.fixture
def bench(migrated_url: str, tmp_path: Path) -> Any:
    service = Service(Settings(storage=migrated_url, output=tmp_path / "out", cache=tmp_path / "cache"))
    ready = Bench(service)
    ready.register("w1")
    ready.register("w2")
    yield ready
    service.db.dispose()
