"""What trials have reported so far, as their peers are compared with them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from hpo_service.domain.trial.endings import FINAL
from hpo_service.domain.trial.states import TrialState

T = TypeVar("T")


@dataclass(frozen=True)
class Curve:
    """The values of a trial by evaluation (from 1), not-a-number included, where the trial stands, and its number."""

    state: TrialState
    values: Mapping[int, float]
    ordinal: int = 0

    @property
    def compares(self) -> bool:
        """Whether its values mean something to others: not those of a trial that failed or was cancelled."""
        return not self.state.final or FINAL[self.state].teaches


@dataclass(frozen=True)
class Peers:
    """Curves of the other trials of a stage.

    Those in `settled` will never change: the list only grows, and what was found in its curves once is remembered, so
    that a question costs no more the more of them there are.
    """

    settled: list[Curve]
    others: Sequence[Curve] = ()
    _found: dict[Hashable, tuple[int, list[Any]]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Curve]:
        yield from self.settled
        yield from self.others

    def beside(self, others: Sequence[Curve]) -> Peers:
        """Return the same settled curves, and all that was found in them, beside others."""
        return Peers(self.settled, others, self._found)

    def find(self, question: Hashable, answer: Callable[[Iterable[Curve]], list[T]]) -> list[T]:
        """Return what an answer finds in all curves; it must look at each curve by itself.

        Args:
            question: names the answer; the same name must always stand for the same one.
            answer: lists what it finds in some curves.
        """
        done, found = self._found.get(question, (0, []))
        found.extend(answer(islice(self.settled, done, None)))
        self._found[question] = (len(self.settled), found)
        return [*found, *answer(self.others)]
