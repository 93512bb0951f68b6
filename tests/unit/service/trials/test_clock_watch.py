"""A jump of the database's clock is told from time that passed, and live workers get time to renew."""

from __future__ import annotations

import pytest

from hpo_service.service.trials.clock_watch import ClockWatch


class Clocks:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.here, self.there = 50.0, 1e9
        self.watch = ClockWatch(lambda: self.here)

    def look(self, passed: float, jumped: float = 0.0, lease: float = 60.0) -> bool:
        self.here += passed
        self.there += passed + jumped
        return self.watch.has_jumped(self.there, lease)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_the_first_look_and_looks_while_time_passes_find_no_jump(clocks: Clocks) -> None:
    assert not clocks.look(0.0)
    assert not any(clocks.look(passed) for passed in (0.1, 10.0, 3600.0))


def test_after_a_jump_workers_have_half_a_lease_to_renew(clocks: Clocks) -> None:
    clocks.look(0.0)
    assert clocks.look(10.0, jumped=3600.0)
    assert clocks.look(29.0)
    assert not clocks.look(2.0)


def test_a_machine_that_slept_looks_like_a_jump_and_each_jump_counts_anew(clocks: Clocks) -> None:
    clocks.look(0.0)
    assert clocks.look(0.5, jumped=8 * 3600.0, lease=600.0)
    assert clocks.look(200.0, jumped=100.0, lease=600.0)
    assert clocks.look(299.0, lease=600.0)
    assert not clocks.look(2.0, lease=600.0)


def test_clocks_that_drift_apart_and_one_that_is_set_back_are_no_jump(clocks: Clocks) -> None:
    clocks.look(0.0)
    assert not any(clocks.look(10.0, jumped=0.5) for _ in range(100))
    assert not clocks.look(10.0, jumped=-3600.0)


def test_where_no_study_gives_leases_nobody_waits(clocks: Clocks) -> None:
    clocks.look(0.0)
    assert not clocks.look(1.0, jumped=100.0, lease=0.0)
