"""How a process ended, in words that continue a sentence."""

import pytest

from hpo_service.wire.exit_status import how_it_ended


@pytest.mark.parametrize(
    "code, words",
    [(0, "ended with status 0"), (3, "ended with status 3"), (-11, "was killed by SIGSEGV")],
)
def test_a_process_ended_by_itself_or_by_a_signal(code, words):
    assert how_it_ended(code) == words


def test_a_signal_without_a_name_is_told_by_number() -> None:
    assert how_it_ended(-250) == "was killed by signal 250"
