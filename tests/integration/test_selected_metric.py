"""A study that selects on a metric of answers: the loss judges half-way, the metric decides at the end."""

from __future__ import annotations

import pytest

from hpo_service.domain.study.direction import Direction
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.domain.trial.states import StudyState, TrialState

SELECT = {"evaluation": {"select": "exact_match"}}


def rightly_answered(assignment):
    """Higher learning rates answer more rows rightly."""
    return min(1.0, 0.1 + 50 * float(assignment.config.parameters["learning_rate"]))


def test_the_metric_decides_who_goes_on_and_a_stopped_trial_has_no_value(bench, trained):
    bench.create(**trained, **SELECT)
    bench.service.queue.describe("s", trained.facts)
    stopped = bench.must_claim()
    bench.report(stopped, 1, 9.0)
    assert bench.end(stopped, OutcomeKind.PRUNED, value=9.0) is TrialState.PRUNED
    bench.drain_queue(rightly_answered)
    snapshot = bench.service.reader.snapshot("s")
    assert snapshot.state is StudyState.FINISHED
    search, verify, _ = snapshot.stages
    assert (search.trials[0].value, search.trials[0].reported) == (None, 9.0)
    best = search.best(Direction.MAXIMIZE)
    assert best.value == max(t.value for t in search.trials if t.value is not None)
    assert best.id in {t.origin_id for t in verify.trials}
    assert verify.reason
    evidence = bench.service.reader.evidence(snapshot)
    assert "from the default in validation exact match, " in evidence.sentence, (
        "seeds made no difference, which is no interval"
    )


def test_pruning_compares_losses_of_which_less_is_better(bench, trained):
    search = {"budget": {"trials": 4}, "pruner": "halving"}
    bench.create(**{**trained, **SELECT, "search": search, "training": {"evaluations_per_epoch": 4}})
    bench.service.queue.describe("s", trained.facts)
    running = [bench.must_claim() for _ in range(4)]
    decisions = [bench.report(a, 1, loss, fraction=0.25) for a, loss in zip(running, (3.0, 2.0, 1.0, 9.0), strict=True)]
    assert [decision.action for decision in decisions] == ["continue"] * 3 + ["prune"]
    assert decisions[-1].reason.startswith("validation loss 9 at 25% of the epoch is 4th of 4")


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_a_search_goes_on_beside_stopped_trials_without_values(bench, trained, sampler):
    search = {"budget": {"trials": 8}, "sampler": sampler, "startup_trials": 1}
    bench.create(**{**trained, **SELECT, "search": search, "confirm": {"enabled": False}})
    bench.service.queue.describe("s", trained.facts)
    for number in range(8):
        assignment = bench.must_claim()
        bench.report(assignment, 1, 3.0)
        if number % 2:
            bench.end(assignment, OutcomeKind.PRUNED, value=3.0)
        else:
            bench.complete(assignment, rightly_answered(assignment))
    assert sorted(t.value is None for t in bench.trials("search")) == [False] * 4 + [True] * 4
