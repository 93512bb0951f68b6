"""Who was wrong too often waits, and nobody is remembered for ever."""

from __future__ import annotations

from hpo_service.web import throttle
from hpo_service.web.throttle import OVERALL, PER_ADDRESS, WINDOW_SECONDS, Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_waits_until_its_first_mistake_is_a_window_old():
    clock = Clock()
    counted = Throttle(clock)
    for second in range(PER_ADDRESS):
        clock.now = float(second)
        assert counted.wait("a") == 0
        counted.wrong("a")
    assert counted.wait("a") == WINDOW_SECONDS - (PER_ADDRESS - 1)
    assert counted.wait("b") == 0
    clock.now = WINDOW_SECONDS
    assert counted.wait("a") == 0


def test_all_addresses_together_wait_as_well():
    counted = Throttle(Clock())
    for number in range(OVERALL):
        counted.wrong(str(number))
    assert counted.wait("another") == WINDOW_SECONDS


def test_only_so_many_addresses_are_remembered(monkeypatch):
    monkeypatch.setattr(throttle, "MOST_ADDRESSES", 3)
    counted = Throttle(Clock())
    for _ in range(PER_ADDRESS):
        counted.wrong("first")
    for number in range(3):
        counted.wrong(str(number))
    assert counted.wait("first") == 0
