"""What was found in curves that never change is not looked for again."""

from __future__ import annotations

from collections.abc import Iterable

from hpo_service.domain.trial.curve import Curve, Peers
from hpo_service.domain.trial.states import TrialState


def curve(*values: float, state: TrialState = TrialState.COMPLETE) -> Curve:
    return Curve(state, dict(enumerate(values, start=1)))


def test_each_settled_curve_is_looked_at_once_and_the_others_each_time() -> None:
    looked: list[float] = []

    def first(curves: Iterable[Curve]) -> list[float]:
        found = [each.values[1] for each in curves]
        looked.extend(found)
        return found

    peers = Peers([curve(1.0), curve(2.0)])
    running = curve(9.0, state=TrialState.RUNNING)
    assert peers.beside([running]).find("first", first) == [1.0, 2.0, 9.0]
    peers.settled.append(curve(3.0))
    assert peers.beside([running]).find("first", first) == [1.0, 2.0, 3.0, 9.0]
    assert peers.find("first", first) == [1.0, 2.0, 3.0]
    assert looked == [1.0, 2.0, 9.0, 3.0, 9.0]


def test_different_questions_have_different_answers() -> None:
    peers = Peers([curve(1.0, 5.0)])
    for step in (1, 2):
        assert peers.find(("step", step), lambda curves, step=step: [c.values[step] for c in curves]) == [4 * step - 3]


def test_peers_are_the_settled_ones_and_the_others() -> None:
    settled, running = curve(1.0), curve(2.0, state=TrialState.RUNNING)
    assert list(Peers([settled], [running])) == [settled, running]


def test_curves_of_failed_trials_do_not_compare() -> None:
    assert [state for state in TrialState if not curve(state=state).compares] == [
        TrialState.FAILED,
        TrialState.CANCELLED,
    ]
