"""What a study does next: which configuration is tried, and whether a trial goes on. Nothing is written here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING

from hpo_service.domain.decide.pruning import Measure, Verdict, longest_warmup
from hpo_service.domain.study.search_space import ParameterValue, SearchSpace, canonical_key
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.trial.curve import Peers
from hpo_service.search.grid import shuffled

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from hpo_service.search.enlisted import EnlistedStorage, SessionSource
    from hpo_service.search.reader import TrialReader

ATTEMPTS = 16
"""How often a sampler may propose a configuration that is taken before the rest of the space is gone through."""


@dataclass(frozen=True)
class Suggestion:
    """A configuration to try; `duplicate` only where the space has none left that was not tried."""

    parameters: dict[str, ParameterValue]
    key: str
    duplicate: bool = False


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
        self, name: str, search: SearchSpec, space: SearchSpace, taken: Callable[[str], bool], draw: int
    ) -> Suggestion | None:
        """Propose the configuration of the next trial, without writing anything.

        Args:
            name: the study.
            search: which sampler, and its seed.
            space: what is sampled; conditions are respected.
            taken: tells of a canonical key whether a trial has that configuration already.
            draw: the number of trials so far; with the seed it decides all that is random.

        Returns:
            The proposal, or None where a grid has been gone through.

        Raises:
            DatabaseUnavailableError: the trials could not be read; the call may be repeated.
        """
        from hpo_service.search.samplers import SAMPLERS, Question

        sampler = SAMPLERS[search.sampler]
        trials = self.trials(name, search.startup_trials) if sampler.learns else []
        question = Question(search, space, draw, trials)
        if sampler.complete:
            return _first_free(sampler.candidates(question), taken)
        candidates = islice(sampler.candidates(question), ATTEMPTS)
        favourite = _suggestion(next(candidates))
        if not taken(favourite.key):
            return favourite
        size = space.size()
        if size is not None and draw >= size and _first_free(shuffled(space, seed=search.seed), taken) is None:
            return replace(favourite, duplicate=True)  # used up: the sampler need not be asked again to find that out
        rest = shuffled(space, seed=search.seed, start=draw) if size is not None else iter(())
        free = _first_free(chain(candidates, rest), taken)
        return free or replace(favourite, duplicate=True)

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
        measure: str = "validation loss",
        span: str = "epoch",
    ) -> Verdict:
        """Decide on a trial that has just reported whether it goes on.

        Args:
            curve: what the trial has reported by evaluation; its two latest reports, its best now and at
                both evaluations of `early_exit.look_back` are enough.
            peers: loads the curves of the other trials of its stage; only called where they are compared.
            search: which pruner, its options, and which direction is better.
            space: what is sampled; nobody is compared before the longest warm-up in it has ended.
            evaluations: how many evaluations a full run reports, numbered from 1.
            fraction: share of the run at the latest report; by default its number over `evaluations`.
            warmup: share of the run spent warming up where the space does not search it.
            ordinal: the trial's number in its stage, from 0; it decides on its bracket.
            measure: what is reported, for the sentence.
            span: what shares are of, likewise.
        """
        from hpo_service.search.pruners import PRUNERS, Case

        if not curve:
            return Verdict(False, f"goes on: no {measure} was reported yet")
        case = Case(
            curve=curve,
            peers=peers,
            search=search,
            ordinal=ordinal,
            evaluations=evaluations,
            fraction=fraction,
            warmup=longest_warmup(space, default=warmup),
            measure=Measure(measure, search.direction, span),
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


def _suggestion(parameters: dict[str, ParameterValue]) -> Suggestion:
    return Suggestion(parameters, canonical_key(parameters))


def _first_free(candidates: Iterable[dict[str, ParameterValue]], taken: Callable[[str], bool]) -> Suggestion | None:
    return next((s for s in map(_suggestion, candidates) if not taken(s.key)), None)
