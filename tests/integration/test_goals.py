"""Limits on what trials cost, and several goals, from the claim to what is shown."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from rich.console import Console

from hpo_service.cli.rendering.tables import study_tables
from hpo_service.domain.events import EventKind
from hpo_service.domain.memory.shape import ModelShape
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.presentation.documents.study import outline_document
from hpo_service.presentation.report.page import render
from hpo_service.search.projection import projection
from hpo_service.service.studies.findings.front import front_of

SPACE = {"parameters": {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}}}
LIMITED = {"budget": {"trials": 4}, "pruner": "none", "constraints": {"seconds": 10}}
BOTH = {"budget": {"trials": 8}, "goals": ["loss", "seconds"]}


def took(seconds: float) -> dict[str, Any]:
    return {"seconds_train": seconds}


def optuna_study(bench: Any) -> optuna.Study:
    service = bench.service
    storage = projection(service.db.url, service.db.session_source)
    return optuna.load_study(study_name="s/search", storage=storage)


def test_a_trial_that_broke_a_limit_is_complete_but_never_the_best(bench: Any) -> None:
    bench.create(search=LIMITED)
    for value, seconds in ((0.1, 12.0), (0.5, 9.0), (0.7, 3.0), (0.2, 30.0)):
        bench.complete(bench.must_claim(), value, facts=took(seconds))
    assert bench.service.stages.advance_all()
    snapshot = bench.service.reader.snapshot("s")
    evidence = bench.service.reader.evidence(snapshot)
    assert [t.state for t in snapshot.stages[0].trials] == [TrialState.COMPLETE] * 4
    assert snapshot.stages[0].trials[0].violated == "training takes 12 s, and search.constraints.seconds allows 10 s"
    assert evidence.recommended is not None
    assert evidence.recommended.validation == 0.5
    outlined = bench.service.reader.outline("s", 0)
    assert bench.service.reader.evidence(outlined).recommended == evidence.recommended
    assert bench.state() is StudyState.FINISHED


@pytest.mark.parametrize("more", [{"pruner": "patient"}, {"goals": ["loss", "seconds"]}, {}])
def test_a_trial_that_is_over_a_limit_is_stopped_on_its_way(bench: Any, more: dict[str, Any]) -> None:
    search = {name: value for name, value in LIMITED.items() if name != "pruner"}
    bench.create(search={**search, **more})
    held = bench.must_claim()
    assert bench.report(held, 2, 1.0, 0.25, train_seconds=9.0).action == "continue"
    decision = bench.report(held, 3, 0.9, 0.375, train_seconds=12.0)
    assert decision.action == "prune"
    assert decision.reason == (
        "training takes 12 s, and search.constraints.seconds allows 10 s: after 38% of the run already, "
        "so it cannot be chosen"
    )


def test_who_asks_for_whole_curves_gets_those_of_trials_over_a_limit_too(bench: Any) -> None:
    bench.create(search=LIMITED)
    assert bench.report(bench.must_claim(), 2, 1.0, 0.25, train_seconds=12.0).action == "continue"


def test_what_samplers_hear_of_a_limit_is_by_how_much_it_was_broken(bench: Any) -> None:
    bench.create(search=LIMITED)
    bench.complete(bench.must_claim(), 0.1, facts=took(20.0))
    bench.end(bench.must_claim(), OutcomeKind.PRUNED, value=0.3, facts={**took(4.0), "steps": 10, "steps_planned": 40})
    bench.complete(bench.must_claim(), 0.2)
    told = [trial.constraints for trial in optuna_study(bench).trials]
    assert [set(each) for each in told] == [{"seconds"}, {"seconds"}, set()]
    assert [each.get("seconds", 0.0) > 0 for each in told] == [True, True, False]
    assert bench.trials()[1].violated.startswith("training takes 16 s")


def test_a_study_none_of_whose_trials_kept_a_limit_fails_and_says_which(bench: Any) -> None:
    bench.create(search={**LIMITED, "budget": {"trials": 1}})
    bench.complete(bench.must_claim(), 0.1, facts=took(20.0))
    bench.service.stages.advance_all()
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FAILED
    assert "broke a limit" in snapshot.reason
    assert "search.constraints.seconds allows 10 s" in snapshot.reason


def test_a_copy_of_a_trial_that_broke_a_limit_is_not_chosen_either(bench: Any) -> None:
    bench.create(
        space={"parameters": {"x": {"choices": [1, 2]}}},
        search={**LIMITED, "budget": {"trials": 4}, "sampler": "random"},
    )
    spent = {1: (0.1, 20.0), 2: (0.5, 5.0)}
    while (held := bench.claim()) is not None:
        value, seconds = spent[held.config.parameters["x"]]
        bench.complete(held, value, facts=took(seconds))
    trials = bench.trials()
    assert len(trials) == 4
    assert all(bool(trial.violated) == (trial.parameters["x"] == 1) for trial in trials)
    assert bench.service.reader.outline("s", 0).stages[0].best().value == 0.5


def test_what_cannot_keep_a_limit_is_passed_over_and_the_event_of_the_claim_says_so(bench: Any, trained: Any) -> None:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 1000, "intermediate_size": 256}
    shape = ModelShape.read({"model_type": "llama", "hidden_size": 64, **sizes})
    facts = {"org/small": ModelFacts(family="llama", hidden_size=64, shape=shape)}
    ranks = {"lora_rank": {"choices": [2, 8, 64, 128]}, "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}
    search = {"budget": {"trials": 12}, "sampler": "random", "constraints": {"adapter_mb": 0.1}}
    bench.create(
        **{
            **trained,
            "model": {"base": "org/small"},
            "space": {"preset": "minimal", "parameters": ranks},
            "search": search,
        }
    )
    bench.service.queue.describe("s", facts)
    held = [bench.must_claim() for _ in range(12)]
    assert {each.config.parameters["lora_rank"] for each in held} <= {2, 8}
    said = [event.reason for event in bench.service.events.list("s") if event.kind == EventKind.TRIAL_CLAIMED]
    assert any(
        "passed over for what" in each and "search.constraints.adapter_mb allows 0.1 MB" in each for each in said
    )


def test_a_space_in_which_nothing_can_keep_a_limit_ends_with_the_reason(bench: Any, trained: Any) -> None:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 1000, "intermediate_size": 256}
    shape = ModelShape.read({"model_type": "llama", "hidden_size": 64, **sizes})
    ranks = {"lora_rank": {"choices": [64, 128]}, "learning_rate": {"choices": [1e-4, 2e-4]}}
    search = {"budget": {"trials": 4}, "sampler": "random", "constraints": {"adapter_mb": 0.1}}
    bench.create(
        **{
            **trained,
            "model": {"base": "org/small"},
            "space": {"preset": "minimal", "parameters": ranks},
            "search": search,
        }
    )
    bench.service.queue.describe("s", {"org/small": ModelFacts(family="llama", hidden_size=64, shape=shape)})
    assert bench.claim() is None
    bench.service.stages.advance_all()
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FAILED
    assert "no trial of search" in snapshot.reason


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random", "qmc"])
def test_a_search_of_several_goals_goes_on_with_any_sampler_and_shows_its_front(bench: Any, sampler: str) -> None:
    bench.create(search={**BOTH, "sampler": sampler, "startup_trials": 2})
    for place in range(8):
        held = bench.must_claim()
        if place == 3:
            bench.end(held, OutcomeKind.PRUNED, value=5.0, facts=took(1.0))
            continue
        x = held.config.parameters["x"]
        bench.complete(held, 1 - x, facts=took(1 + x))
    bench.service.stages.advance_all()
    whole = bench.service.reader.snapshot("s")
    found = front_of(whole)
    assert found is not None
    assert len(found.best) == len(found.points) == 7  # loss falls where seconds rise
    assert optuna_study(bench).directions == [optuna.study.StudyDirection.MINIMIZE] * 2
    assert len(optuna_study(bench).best_trials) == 7
    outlined = bench.service.reader.outline("s", 0)
    assert [p.trial.number for p in front_of(outlined).best] == [p.trial.number for p in found.best]
    evidence = bench.service.reader.evidence(whole)
    document = outline_document(whole, evidence)["front"]
    assert document["goals"] == ["loss", "seconds"]
    assert len(document["trials"]) == 7
    assert "Pareto front of search: 7 of 7 trials" in render(whole, evidence)
    console = Console(width=160, record=True)
    console.print(*study_tables(outlined))
    assert "Pareto front of search: 7 of 7 trials" in console.export_text()


def test_a_study_of_one_goal_has_no_front(bench: Any) -> None:
    bench.create()
    bench.complete(bench.must_claim(), 0.1, facts=took(1.0))
    snapshot = bench.service.reader.snapshot("s")
    assert front_of(snapshot) is None
    assert outline_document(snapshot, bench.service.reader.evidence(snapshot))["front"] is None


def test_with_several_goals_a_trial_of_which_a_cost_is_not_known_counts_as_pruned_for_samplers(bench: Any) -> None:
    bench.create(search=BOTH)
    bench.complete(bench.must_claim(), 0.1)
    (trial,) = optuna_study(bench).trials
    assert trial.state is optuna.trial.TrialState.PRUNED
    assert bench.trials()[0].state is TrialState.COMPLETE
