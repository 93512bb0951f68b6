"""A search that learns from another study from its first trial on, and without it once that is deleted."""

from __future__ import annotations

import pytest

from hpo_service.errors import ConflictError, NotFoundError

SEARCH = {"budget": {"trials": 8}, "pruner": "none"}


def roles(bench, study):
    return [trial.role for trial in bench.service.reader.snapshot(study).stages[0].trials]


def test_a_search_that_knows_another_needs_no_start_up_trials_and_spends_its_own_budget(bench):
    bench.create(search=SEARCH)
    assert bench.drain_queue() == 8
    bench.create(name="t", search={**SEARCH, "warm_start": "s"})
    assert bench.drain_queue() == 8
    assert roles(bench, "s") == ["start-up"] * 5 + ["gp"] * 3
    assert roles(bench, "t") == ["gp"] * 8
    events = bench.service.reader.snapshot("t").stages[0]
    assert len(events.trials) == 8


def test_what_is_not_the_same_there_is_said(bench):
    bench.create(search=SEARCH)
    bench.create(name="t", search={**SEARCH, "warm_start": "s"}, objective={"python": "another:one"})
    reason = bench.service.reader.snapshot("t").stages[0].reason
    assert reason == (
        "gp proposes, none prunes; learns from what study s measured, too (which differs in objective: its values "
        "are put on this study's scale)"
    )


def test_a_study_that_is_not_there_or_looks_the_other_way_is_refused(bench):
    with pytest.raises(NotFoundError, match="names study nowhere, which is not in this database"):
        bench.create(search={**SEARCH, "warm_start": "nowhere"})
    bench.create(search=SEARCH)
    with pytest.raises(ConflictError, match="has another search"):
        bench.create(name="t", search={**SEARCH, "warm_start": "s", "direction": "maximize"})


def test_a_search_goes_on_when_the_other_study_is_deleted(bench):
    bench.create(search=SEARCH)
    bench.drain_queue()
    bench.create(name="t", search={**SEARCH, "warm_start": "s"})
    bench.complete(bench.must_claim())
    bench.service.studies.delete("s")
    assert bench.drain_queue() == 7
