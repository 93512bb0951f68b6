"""A follower misses nothing that commits late, says nothing twice, and does not read the same rows for ever."""

from __future__ import annotations

from hpo_service.service.events import LATE_SECONDS, Follower
from hpo_service.storage.events import EventRow


def event(id: int, at: float) -> EventRow:
    return EventRow(id, at, "s", "search", 1, 0, "w1", "trial_claimed", "taken", {})


class Table:
    """Committed events, and the database's time."""

    def __init__(self) -> None:
        self.rows: dict[int, EventRow] = {}
        self.now = 0.0
        self.asked: list[int] = []

    def commit(self, *ids: int) -> None:
        self.rows |= {id: event(id, self.now) for id in ids}

    def read(self, after: int) -> tuple[list[EventRow], float]:
        self.asked.append(after)
        return [self.rows[id] for id in sorted(self.rows) if id > after], self.now


def ids(rows: list[EventRow]) -> list[int]:
    return [row.id for row in rows]


def test_an_event_that_commits_after_one_with_a_higher_id_is_told():
    table = Table()
    follower = Follower(table.read)
    table.commit(1, 3)
    assert ids(follower.next()) == [1, 3]
    table.now += LATE_SECONDS / 2
    table.commit(2)
    assert ids(follower.next()) == [2]
    assert follower.next() == []


def test_what_is_old_is_read_once():
    table = Table()
    follower = Follower(table.read)
    table.commit(1, 2)
    follower.next()
    table.now += LATE_SECONDS + 1
    table.commit(3)
    assert ids(follower.next()) == [3]
    follower.next()
    assert table.asked == [0, 0, 2]
    assert follower._seen == {3}


def test_it_begins_after_what_is_known():
    table = Table()
    table.commit(1, 2, 3)
    assert ids(Follower(table.read, after=2).next()) == [3]
