"""Studies as Optuna keeps them: sampling is a read, all else a short write inside the caller's transaction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from hpo_service.domain.decide.pruning import Measure, Verdict, longest_warmup
from hpo_service.domain.study.direction import Direction
from hpo_service.domain.study.search_space import ParameterValue, SearchSpace, canonical_key
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import ConflictError, DatabaseUnavailableError, SchemaError
from hpo_service.search.grid import shuffled

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from hpo_service.search.enlisted import EnlistedStorage, SessionSource
    from hpo_service.search.reader import TrialReader

ATTEMPTS = 16
"""How often a sampler may propose a configuration that is taken before the rest of the space is gone through."""

CONSTRAINT = "vram_over_gb"
"""Name of the one constraint: by how much the trial went over the device's memory; below 0 is room left."""


@dataclass(frozen=True)
class Suggestion:
    """A configuration to try; `duplicate` only where the space has none left that was not tried."""

    parameters: dict[str, ParameterValue]
    key: str
    duplicate: bool = False


@dataclass(frozen=True)
class TrialHandle:
    """A trial in Optuna's tables: its row, and its number within the study."""

    optuna_id: int
    number: int


@dataclass(frozen=True)
class Best:
    """The best complete trial of a study."""

    number: int
    value: float
    parameters: dict[str, ParameterValue]


class OptunaStudies:
    """Optuna's tables as the service uses them.

    Contract: whatever writes (`create`, `add_running`, `report`, `finish`, `delete`) does so in the transaction
    that is open on the calling thread, and is undone with it. `suggest` writes nothing and belongs outside of
    any transaction, because it may take long. Instances may be shared between threads. Optuna is imported and
    the database touched when the first method is called, not before.
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

    @staticmethod
    def create_tables(url: str) -> None:
        """Create Optuna's tables where they are missing; call it under the migration lock, outside transactions.

        Raises:
            SchemaError: the tables are there, but of another Optuna version.
        """
        from hpo_service.search.enlisted import create_tables

        try:
            create_tables(url)
        except RuntimeError as error:
            raise SchemaError(f"Optuna's tables do not fit the installed Optuna: {error}") from error

    def create(self, name: str, direction: Direction) -> None:
        """Create a study unless it is there already."""
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        if self.exists(name):
            return
        # another process may create it between the two; only a savepoint is lost then
        with suppress(DuplicatedStudyError):
            self._storage.create_new_study([StudyDirection[direction.upper()]], name)

    def exists(self, name: str) -> bool:
        """Tell whether there is a study of this name."""
        return self._storage.find_study(name) is not None

    def delete(self, name: str) -> None:
        """Delete a study with its trials; one that is not there is no error."""
        study_id = self._storage.find_study(name)
        if study_id is not None:
            self._reader.forget(study_id)
            self._storage.delete_study(study_id)

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
        trials = self._read(name) if sampler.learns else []
        question = Question(search, space, draw, trials)
        if sampler.complete:
            return _first_free(sampler.candidates(question), taken)
        candidates = islice(sampler.candidates(question), ATTEMPTS)
        favourite = _suggestion(next(candidates))
        if not taken(favourite.key):
            return favourite
        rest = shuffled(space, seed=search.seed, start=draw) if space.size() is not None else iter(())
        free = _first_free(chain(candidates, rest), taken)
        return free or replace(favourite, duplicate=True)

    def add_running(
        self,
        name: str,
        parameters: Mapping[str, ParameterValue],
        space: SearchSpace,
        attributes: Mapping[str, Any] | None = None,
    ) -> TrialHandle:
        """Insert a running trial with all its parameters at once.

        Args:
            name: the study.
            parameters: the configuration; values outside the space are kept as they are.
            space: what the study samples from.
            attributes: Optuna user attributes, JSON without NaN or infinities.
        """
        from hpo_service.search.distributions import distribution_holding

        rows = {key: (value, distribution_holding(key, value, space)) for key, value in parameters.items()}
        optuna_id, number = self._storage.add(name, rows, attributes or {})
        return TrialHandle(optuna_id, number)

    def report(self, optuna_id: int, step: int, value: float) -> None:
        """Store the value of one evaluation; NaN and infinities are stored as such, and judged as diverged.

        Raises:
            ConflictError: the trial has ended.
        """
        if not self._storage.report(optuna_id, step, value):
            raise ConflictError(f"trial {optuna_id} has ended: no more evaluations can be reported for it")

    def finish(self, optuna_id: int, state: TrialState, value: float | None, violation: float | None) -> None:
        """End a trial, so that the sampler learns from it; one that has ended already is left alone.

        Args:
            optuna_id: the trial.
            state: complete, pruned and infeasible teach the sampler; failed and cancelled say nothing about
                the configuration and are hidden from it.
            value: the final measure; a pruned trial's default is what it reported last. A complete trial without
                a finite one counts as pruned.
            violation: gigabytes over the device's memory (negative: room left); 1 for an infeasible trial
                of which it is not known.
        """
        from hpo_service.search.enlisted import ENDINGS

        if value is not None and not math.isfinite(value):
            value = None
        if state is TrialState.COMPLETE and value is None:
            state = TrialState.PRUNED
        if state is TrialState.INFEASIBLE and violation is None:
            violation = 1.0
        constraint = None if violation is None or not math.isfinite(violation) else (CONSTRAINT, violation)
        self._storage.settle(optuna_id, ENDINGS[state], value, constraint)

    def judge(
        self,
        name: str,
        optuna_id: int,
        search: SearchSpec,
        space: SearchSpace,
        *,
        evaluations: int,
        fraction: float | None = None,
        warmup: float = 0.0,
        measure: str = "validation loss",
    ) -> Verdict:
        """Decide on a trial that has just reported whether it goes on.

        Args:
            name: the study.
            optuna_id: the trial, its latest evaluation reported.
            search: which pruner, its rungs, and which direction is better.
            space: what is sampled; nobody is compared before the longest warm-up in it has ended.
            evaluations: how many evaluations a full run reports, numbered from 1.
            fraction: share of the epoch at the latest report; by default its number over `evaluations`.
            warmup: share of the epoch spent warming up where the space does not search it.
            measure: what is reported, for the sentence.
        """
        from hpo_service.search.pruners import PRUNERS, Case

        with _readable(name):
            curve = self._storage.curve(optuna_id)
        if not curve:
            return Verdict(False, f"goes on: no {measure} was reported yet")
        case = Case(
            optuna_id=optuna_id,
            curve=curve,
            trials=lambda: self._read(name),
            rungs=search.rungs,
            evaluations=evaluations,
            fraction=fraction,
            warmup=longest_warmup(space, default=warmup),
            measure=Measure(measure, search.direction),
        )
        return PRUNERS[search.pruner].judge(case)

    def best(self, name: str) -> Best | None:
        """Return the best complete trial, or None where there is none yet."""
        from optuna.trial import TrialState as OptunaState

        complete = [t for t in self._read(name) if t.state is OptunaState.COMPLETE and t.value is not None]
        if not complete:
            return None
        measure = Measure(direction=self._storage.direction(self._storage.study_id(name)))
        first = min(complete, key=lambda t: measure.badness(t.value or 0.0))
        return Best(first.number, float(first.value or 0.0), dict(first.params))

    def _read(self, name: str) -> list[FrozenTrial]:
        with _readable(name):
            return self._reader.read(self._storage.study_id(name))


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Say in our words that the database is away; Optuna hides the driver's error in one of its own."""
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except StorageInternalError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise DatabaseUnavailableError(
            f"the trials of {name} could not be read ({cause}): check that the database is up, then try again"
        ) from error


def _suggestion(parameters: dict[str, ParameterValue]) -> Suggestion:
    return Suggestion(parameters, canonical_key(parameters))


def _first_free(candidates: Iterable[dict[str, ParameterValue]], taken: Callable[[str], bool]) -> Suggestion | None:
    return next((s for s in map(_suggestion, candidates) if not taken(s.key)), None)
