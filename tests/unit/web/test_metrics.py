"""However many ask, the database counts once in a while."""

from __future__ import annotations

from hpo_service.errors import DatabaseUnavailableError
from hpo_service.service.counting import Counts
from hpo_service.web.metrics import KEPT_SECONDS, Metrics

COUNTS = Counts({"active": 2}, {"running": 3}, {"lost": 1}, 1, 12.5, 4, 5)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_numbers_are_read_again_when_they_are_too_old():
    clock, read = Clock(), []

    def counts():
        read.append(clock.now)
        return COUNTS

    metrics = Metrics(counts, clock)
    for now in (0.0, 1.0, KEPT_SECONDS, KEPT_SECONDS + 1):
        clock.now = now
        metrics.text()
    assert read == [0.0, KEPT_SECONDS]


def test_every_number_has_a_line():
    lines = Metrics(lambda: COUNTS).text().decode().splitlines()
    assert {"hpo_expired_leases 1.0", "hpo_device_seconds 12.5", "hpo_lost_attempts 4.0"} <= set(lines)
    assert 'hpo_workers{state="lost"} 1.0' in lines
    assert 'hpo_studies{state="paused"} 0.0' in lines


def test_without_a_database_only_that_is_said():
    def away():
        raise DatabaseUnavailableError("away")

    lines = [line for line in Metrics(away).text().decode().splitlines() if not line.startswith("#")]
    assert lines == ["hpo_database_up 0.0"]
