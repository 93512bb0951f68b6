"""What a study does next: which configuration is tried, and whether a trial goes on. Nothing is written here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING

from hpo_service.domain.decide.goals.foreseen import Barrier
from hpo_service.domain.decide.pruning import Measure, Verdict, longest_warmup
from hpo_service.domain.decide.start.beginning import Beginning
from hpo_service.domain.study.search_space import ParameterValue, SearchSpace, canonical_key
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.trial.curve import Peers
from hpo_service.search.grid import shuffled

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from hpo_service.search.enlisted import EnlistedStorage, SessionSource
    from hpo_service.search.reader import TrialReader
    from hpo_service.search.samplers import Question
    from hpo_service.search.warm import Warmth

ATTEMPTS = 16
"""How often a sampler may propose a configuration that is taken before the rest of the space is gone through."""

BEHIND = 32
"""Start-up points that are looked at again, whether claims which lost a race have passed one over."""
OPEN = Barrier(None)
"""Lets everything through."""
START_UP = "start-up"
"""Role of trials that fill the space."""


@dataclass(frozen=True)
class Suggestion:
    """A configuration to try; `duplicate` only where the space has none left that was not tried.

    `role` says in a word or two why this one: the default, enqueued, to fill the space, or by which sampler; `remark`
    what was passed over for it, in a sentence.
    """

    parameters: dict[str, ParameterValue]
    key: str
    duplicate: bool = False
    role: str = "search"
    remark: str = ""


class SearchPolicy:
    """Samplers and pruners by the names they have in a study file.

    `suggest` reads Optuna's study and belongs outside of any transaction, because it may take long; `judge` knows only
    what it is given. Instances may be shared between threads. Optuna is imported and the database touched when a
    method needs them, not before.
    """

    def __init__(self, url: str, session_source: SessionSource) -> None:
        self._url = url
        self._session_source = session_source

    @cached_property
    def _storage(self) -> EnlistedStorage:
        from hpo_service.search.enlisted import EnlistedStorage

        return EnlistedStorage(self._url, self._session_source)

    @cached_property
    def _reader(self) -> TrialReader:
        from hpo_service.search.reader import TrialReader

        return TrialReader(self._storage)

    def suggest(
        self,
        name: str,
        search: SearchSpec,
        space: SearchSpace,
        taken: Callable[[str], bool],
        draw: int,
        first: Sequence[Beginning] = (),
        warmth: Warmth | None = None,
        barrier: Barrier = OPEN,
    ) -> Suggestion | None:
        """Propose the configuration of the next trial, without writing anything.

        First what the study begins with; then, for samplers that learn, points that fill the space, until
        `search.startup_trials` more trials have ended from which one can learn, however many workers there are; then
        the sampler's own proposals.

        Args:
            name: the study.
            search: which sampler, and its seed.
            space: what is sampled; conditions are respected.
            taken: tells of a canonical key whether a trial has that configuration already.
            draw: the number of trials so far; with the seed it decides all that is random.
            first: what is tried before everything else, in this order.
            warmth: another study from which samplers that learn do so too; with what it measured fewer start-up trials
                are needed, or none.

            barrier: lets through what may keep the study's limits.

        Returns:
            The proposal, or None where a grid has been gone through, or the barrier let nothing through.

        Raises:
            DatabaseUnavailableError: the trials could not be read; the call may be repeated.
        """
        from hpo_service.search.samplers import SAMPLERS, Question

        given = _beginning(first, taken, barrier) if draw < len(first) + ATTEMPTS else None
        if given is not None:
            return given
        sampler = SAMPLERS[search.sampler]
        known = self.trials(name, search.startup_trials + len(first)) if sampler.learns else []
        if warmth is not None and sampler.learns:
            from hpo_service.search.warm import known_before

            known = [*known_before(self.trials(warmth.name), known, space, alike=warmth.alike), *known]
        question = Question(search, space, draw, known)
        filling = _filling(question, len(first), taken, barrier) if sampler.learns else None
        if filling is not None:
            return filling
        if sampler.complete:
            found = _first_free(barrier(sampler.candidates(question)), taken)
        else:
            found = _proposed(question, taken, barrier)
        return replace(found, role=search.sampler) if found is not None else None

    def enough(self, name: str, search: SearchSpec, space: SearchSpace, draw: int, trials: int) -> str | None:
        """Say why another trial is not worth it, where `search.stop_when_gain_below` asks for that; else None.

        It is not when the trials that are left together are expected to improve on the best so far by less: at most as
        many times what the best of all configurations is expected to bring next, under a Gaussian process of everything
        measured, whatever the sampler. Nothing is said before as many trials have ended as start up the search and
        another for each parameter: a process of fewer believes too readily what it sees.

        Raises:
            DatabaseUnavailableError: the trials could not be read; the call may be repeated.
        """
        if search.stop_when_gain_below is None or draw < search.startup_trials + len(space.parameters):
            return None
        from hpo_service.search.samplers import Question, promise_of

        question = Question(search, space, draw, self.trials(name, search.startup_trials))
        if question.ended < search.startup_trials + len(space.parameters):
            return None
        found = promise_of(question)
        left = max(1, trials - draw)
        if found is None or left * found.gain >= search.stop_when_gain_below:
            return None
        return (
            f"after {question.ended} trials the {left} that are left are expected to improve on the best by at most "
            f"{left * found.gain:.2g}, which is below search.stop_when_gain_below, {search.stop_when_gain_below:g}"
        )

    def judge(
        self,
        curve: Mapping[int, float],
        peers: Callable[[], Peers],
        search: SearchSpec,
        space: SearchSpace,
        *,
        evaluations: int,
        fraction: float | None = None,
        warmup: float = 0.0,
        ordinal: int = 0,
        measure: Measure | None = None,
    ) -> Verdict:
        """Decide on a trial that has just reported whether it goes on.

        Args:
            curve: what the trial has reported by evaluation; its two latest reports, its best now and at
                both evaluations of `early_exit.look_back` are enough.
            peers: loads the curves of the other trials of its stage; only called where they are compared.
            search: which pruner, and its options.
            space: what is sampled; nobody is compared before the longest warm-up in it has ended.
            evaluations: how many evaluations a full run reports, numbered from 1.
            fraction: share of the run at the latest report; by default its number over `evaluations`.
            warmup: share of the run spent warming up where the space does not search it.
            ordinal: the trial's number in its stage, from 0; it decides on its bracket.
            measure: what is reported; left out, the validation loss, of which what `search` says is better.
        """
        from hpo_service.search.pruners import PRUNERS, Case

        measure = measure or Measure(direction=search.direction)
        if not curve:
            return Verdict(False, f"goes on: no {measure.name} was reported yet")
        case = Case(
            curve=curve,
            peers=peers,
            search=search,
            ordinal=ordinal,
            evaluations=evaluations,
            fraction=fraction,
            warmup=longest_warmup(space, default=warmup),
            measure=measure,
        )
        return PRUNERS[search.pruner].judge(case)

    def trials(self, name: str, at_least: int = 0) -> list[FrozenTrial]:
        """Return the trials that samplers learn from, as Optuna's study has them.

        Args:
            name: the study.
            at_least: so many of the latest finished ones, where there are as many; more may be returned.
        """
        from hpo_service.search.reader import LATEST

        with self._session_source.translated_errors():
            return self._reader.read(self._storage.study_id(name), max(LATEST, at_least))


def _beginning(first: Sequence[Beginning], taken: Callable[[str], bool], barrier: Barrier) -> Suggestion | None:
    """Return the first of these that no trial has yet and that may run."""
    open_ones = (each for each in first for _ in barrier([each.parameters]))
    named = (replace(_suggestion(each.parameters), role=each.role) for each in open_ones)
    return next((suggestion for suggestion in named if not taken(suggestion.key)), None)


def _filling(question: Question, before: int, taken: Callable[[str], bool], barrier: Barrier) -> Suggestion | None:
    """Return the first point of the space-filling sequence that no trial has, while too few have ended to learn from.

    It depends on the seed and on what is taken alone, so workers share one sequence, and none of its points is left out
    where claims collide.
    """
    from hpo_service.search.quasirandom import halton

    if question.ended >= question.search.startup_trials + before:
        return None
    start = max(0, question.draw - before - BEHIND)
    points = islice(barrier(halton(question.space, seed=question.search.seed, start=start)), BEHIND + 2 * ATTEMPTS)
    found = _first_free(points, taken)
    return None if found is None else replace(found, role=START_UP)


def _proposed(question: Question, taken: Callable[[str], bool], barrier: Barrier) -> Suggestion | None:
    """Return the sampler's first proposal that no trial has, else whatever is left of the space, else a duplicate.

    None where nothing that was looked at may run.
    """
    from hpo_service.search.samplers import SAMPLERS

    search, space, draw = question.search, question.space, question.draw
    size = space.size()
    candidates = islice(barrier(SAMPLERS[search.sampler].candidates(question)), ATTEMPTS)
    preferred = next(candidates, None)
    if preferred is None:
        return None if size is None else _first_free(barrier(shuffled(space, seed=search.seed, start=draw)), taken)
    favourite = _suggestion(preferred)
    if not taken(favourite.key):
        return favourite
    if size is not None and draw >= size and _first_free(barrier(shuffled(space, seed=search.seed)), taken) is None:
        return replace(favourite, duplicate=True)  # used up: the sampler need not be asked again to find that out
    rest = barrier(shuffled(space, seed=search.seed, start=draw)) if size is not None else iter(())
    free = _first_free(chain(candidates, rest), taken)
    return free or replace(favourite, duplicate=True)


def _suggestion(parameters: dict[str, ParameterValue]) -> Suggestion:
    return Suggestion(parameters, canonical_key(parameters))


def _first_free(candidates: Iterable[dict[str, ParameterValue]], taken: Callable[[str], bool]) -> Suggestion | None:
    return next((s for s in map(_suggestion, candidates) if not taken(s.key)), None)
