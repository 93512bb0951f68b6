"""However a study is extended, and whenever, it ends with all that was asked for, and nothing measured is lost."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.studyfile.extension import Extension, Wider
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.service.studies.snapshot import StudySnapshot
from hpo_service.service.trials.queue import Copied
from hpo_service.settings import Settings
from tests.pauses import let_pass

NAMES = itertools.count()


class GoingOn(RuleBasedStateMachine):
    """A worker, whoever advances the study, and a person who wants more of it."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.service = service
        self.name = f"study-{next(NAMES)}"
        self.trials, self.seeds, self.low = 3, 2, 0.0
        self.held: list[Any] = []
        self.measured: dict[tuple[str, int], float] = {}
        given = {
            "name": self.name,
            "objective": {"python": "a:b"},
            "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
            "search": {"sampler": "random", "pruner": "none", "budget": {"trials": self.trials}},
            "confirm": {"default": {"x": 0.9}, "seeds": self.seeds},
        }
        service.studies.create(StudySpec.model_validate(given))

    def snapshot(self) -> StudySnapshot:
        return self.service.reader.snapshot(self.name)

    def teardown(self) -> None:
        """Let the study end: everything that was asked for was run."""
        while self.held or self.work():
            self.end(0.5)
        snapshot = self.snapshot()
        assert snapshot.state is StudyState.FINISHED
        search, confirm = snapshot.stages
        assert search.count(TrialState.COMPLETE) == self.trials
        assert len({t.seed for t in confirm.trials if t.label == "default"}) == self.seeds
        best = search.best()
        winners = {t.seed for t in confirm.trials if t.origin_id == best.id and t.state is TrialState.COMPLETE}
        assert len(winners) == self.seeds, "the best of the whole search is confirmed"

    def work(self) -> bool:
        """Claim what there is to claim, advancing as idle workers do; tell whether there was anything."""
        let_pass(self.service.db)
        while True:
            claimed = self.service.queue.claim("w", self.name)
            if claimed is None and not self.service.stages.advance_all():
                return False
            if claimed is not None and not isinstance(claimed, Copied):
                self.held.append(claimed)
                return True

    @rule()
    def claim(self) -> None:
        if len(self.held) < 3:
            self.work()

    @precondition(lambda self: self.held)
    @rule(value=st.floats(0.1, 9.0))
    def end(self, value: float) -> None:
        trial = self.held.pop(0)
        self.service.queue.finish(trial.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=value))
        self.measured[trial.stage, trial.number] = value

    @precondition(lambda self: self.trials < 8)
    @rule(more=st.integers(1, 2), wider=st.booleans())
    def extend_search(self, more: int, wider: bool) -> None:
        self.trials += more
        self.low -= 1.0 if wider else 0.0
        ranges = {"x": Wider((self.low, 1.0))} if wider else {}
        self.service.extensions.extend(self.name, Extension(trials=self.trials, ranges=ranges))

    @precondition(lambda self: self.seeds < 5)
    @rule()
    def extend_confirm(self) -> None:
        self.seeds += 1
        self.service.extensions.extend(self.name, Extension(seeds=self.seeds))

    @invariant()
    def one_stage_is_open_at_most_and_nothing_is_lost(self) -> None:
        snapshot = self.snapshot()
        assert sum(view.open for view in snapshot.stages) <= 1
        values = {(view.stage, t.number): t.value for view in snapshot.stages for t in view.trials}
        assert self.measured.items() <= values.items()

    @invariant()
    def a_name_is_that_of_one_configuration(self) -> None:
        for view in self.snapshot().stages[1:]:
            named = {(t.label, tuple(t.parameters.items())) for t in view.trials}
            assert len({label for label, _ in named}) == len(named)


def test_whenever_a_study_is_extended_it_ends_with_all_that_was_asked_for(migrated_url: str, tmp_path: Path) -> None:
    service = Service(Settings(storage=migrated_url, output=tmp_path / "out", cache=tmp_path / "cache"))
    with service.db.transaction():
        service.worker_rows.register("w", "host", 1, "0", "cpu")
    run_state_machine_as_test(
        lambda: GoingOn(service),
        settings=settings(
            max_examples=10,
            stateful_step_count=18,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        ),
    )
    service.db.dispose()
