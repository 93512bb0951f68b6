"""What bounds workers and launches, as the database counts it: time left, device hours, and what is left to do."""

from __future__ import annotations

import pytest

from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import ConflictError
from hpo_service.service.trials.budget import Limits, Withheld
from tests.pauses import let_pass


def claim(bench, **limits):
    let_pass(bench.service.db)
    return bench.service.queue.claim(bench.worker, "s", limits=Limits(**limits))


def took(bench, assignment, seconds):
    """Have an attempt begun so many seconds earlier than it was."""
    with bench.service.db.transaction():
        bench.service.db.connection.exec_driver_sql(
            f"UPDATE hpo_attempt SET started_at = started_at - {seconds:f} WHERE trial_id = {assignment.lease.trial_id}"
        )


def test_no_trial_is_given_out_that_cannot_reach_its_first_checkpoint(bench):
    bench.create()
    withheld = claim(bench, seconds_left=5.0)
    assert isinstance(withheld, Withheld)
    assert (withheld.out_of_time, withheld.reason) == (
        True,
        "5 s are left, a trial of search takes 10 s to its first checkpoint",
    )
    first = claim(bench, seconds_left=30.0)
    took(bench, first, 120.0)
    bench.report(first, 1, 3.0)
    bench.report(first, 2, 2.0)
    bench.complete(first)
    refused = claim(bench, seconds_left=90.0)
    assert isinstance(refused, Withheld)
    assert "a trial of search takes 120 s to its first checkpoint" in refused.reason
    assert claim(bench, seconds_left=150.0).number == 1


def test_where_there_is_nothing_to_claim_nothing_is_withheld(bench):
    bench.create(search={"budget": {"trials": 1}, "pruner": "none"})
    bench.must_claim()
    assert claim(bench, seconds_left=0.0) is None


def test_a_cap_on_device_hours_stops_in_time_waiting_trials_included(bench):
    bench.create()
    first = claim(bench, max_device_hours=2.5)
    took(bench, first, 3600.0)
    bench.complete(first)
    second = claim(bench, max_device_hours=2.5)
    withheld = claim(bench, max_device_hours=2.5)
    assert isinstance(withheld, Withheld)
    assert not withheld.out_of_time
    assert withheld.reason == "1.000 of at most 2.5 device hours are used and 2.000 more would be spoken for"
    bench.run_out(second)
    bench.service.reaper.reap()
    again = claim(bench, max_device_hours=2.5)
    assert (again.number, again.attempt) == (1, 2)
    took(bench, again, 3600.0)
    bench.complete(again)
    assert isinstance(claim(bench, max_device_hours=2.5), Withheld)
    assert claim(bench, max_device_hours=3.5).number == 2
    assert bench.service.demands.of("s", 2.5).forbidden


def test_what_is_left_of_a_study_is_counted_by_the_workers_that_are_of_use(bench):
    bench.create()
    demands = bench.service.demands
    assert (demands.of("s").workers, demands.of("s").ended, demands.of("s").stage) == (4, 0, "search")
    held = [bench.must_claim("w1"), bench.must_claim("w1")]
    assert demands.of("s").workers == 3  # one holds two, two may still be admitted
    for each in held:
        bench.complete(each)
    assert (demands.of("s").workers, demands.of("s").ended) == (2, 2)
    bench.service.studies.steer("s", StudyState.PAUSED, "night")
    assert (demands.of("s").state, demands.of("s").workers) == (StudyState.PAUSED, 0)


def test_a_launch_ends_with_its_study(bench):
    bench.create()
    bench.service.launches.add("3f2a91c0", "s", "slurm", 2, {}, output="/out", by="")
    assert bench.service.launches.end_with_their_studies() == []
    bench.service.studies.steer("s", StudyState.CANCELLED, "enough")
    (over,) = bench.service.launches.end_with_their_studies()
    assert over.id == "3f2a91c0"
    assert not bench.service.launches.is_wanted("3f2a91c0")
    with pytest.raises(ConflictError, match="study s is cancelled"):
        bench.service.dispatch.draft("slurm", "s", {"workers": 2})
