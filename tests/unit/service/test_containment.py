"""One study that cannot be served costs nobody else anything, is said once, and is tried again less and less often."""

from __future__ import annotations

import logging

import pytest

from hpo_service.errors import DatabaseFaultError, DatabaseUnavailableError, SchemaError, UnreadableStudyError
from hpo_service.service.containment import FIRST_PAUSE, LONGEST_PAUSE, Containment, Work


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def containment(clock: Clock) -> Containment:
    return Containment(clock)


def fail(containment: Containment, error: BaseException, study: str = "bad", work: Work = Work.CLAIM) -> None:
    with containment.of(work, study):
        raise error


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_error_is_said_once_and_again_when_it_changes_or_comes_back(containment, caplog):
    for error in (ValueError("one"), ValueError("one"), KeyError("two"), KeyError("two"), ValueError("one")):
        fail(containment, error)
    assert [line.split("(")[1].split(")")[0] for line in said(caplog)] == [
        "ValueError: one",
        "KeyError: 'two'",
        "ValueError: one",
    ]
    assert all("study bad: a claim failed" in line and "other studies go on" in line for line in said(caplog))


def test_the_pause_grows_up_to_a_limit_and_ends_with_success(containment, clock):
    pauses = []
    for _ in range(12):
        fail(containment, ValueError("no"))
        start = clock.now
        while containment.rests(Work.CLAIM, "bad"):
            clock.now += FIRST_PAUSE
        pauses.append(clock.now - start)
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    with containment.of(Work.CLAIM, "bad"):
        pass
    fail(containment, ValueError("no"))
    clock.now += FIRST_PAUSE
    assert not containment.rests(Work.CLAIM, "bad")


def test_other_studies_and_other_work_on_the_study_do_not_rest(containment):
    fail(containment, ValueError("no"))
    assert containment.rests(Work.CLAIM, "bad")
    assert not containment.rests(Work.CLAIM, "good")
    assert not containment.rests(Work.REAP, "bad")


@pytest.mark.parametrize(
    "error",
    [
        DatabaseUnavailableError("away"),
        DatabaseFaultError("damaged"),
        SchemaError("old"),
        KeyboardInterrupt(),
        SystemExit(1),
        GeneratorExit(),
    ],
)
def test_interrupts_and_failures_of_the_whole_database_pass_through(containment, error, caplog):
    with pytest.raises(type(error)):
        fail(containment, error)
    assert not containment.rests(Work.CLAIM, "bad")
    assert not said(caplog)


def test_who_asked_for_one_study_of_another_version_is_told(containment):
    with pytest.raises(UnreadableStudyError), containment.of(Work.CLAIM, "theirs", alone=True):
        raise UnreadableStudyError("made by another version")
    fail(containment, UnreadableStudyError("made by another version"), "theirs")


def test_one_reason_of_several_kinds_of_work_is_said_once(containment, caplog):
    for work in Work:
        fail(containment, UnreadableStudyError("made by another version"), work=work)
    assert said(caplog) == ["made by another version; other studies go on"]


def test_an_error_that_nobody_expected_is_logged_with_where_it_came_from(containment, caplog):
    fail(containment, RuntimeError(""))
    assert "RuntimeError" in said(caplog)[0]
    assert caplog.records[0].exc_info
