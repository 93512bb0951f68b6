"""One search replayed: configurations are asked for, each follows its real curve, and some are stopped on the way."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Protocol

import optuna
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as Told

from benchmarks.replaying.curves import Configuration, Problem, Run
from hpo_service.domain.decide.pruning import Measure
from hpo_service.domain.study.search_space import FloatParameter, ParameterValue
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.domain.trial.curve import Curve, Peers
from hpo_service.domain.trial.states import TrialState
from hpo_service.search.distributions import distribution_of
from hpo_service.search.policy import ATTEMPTS
from hpo_service.search.pruners import PRUNERS, Case
from hpo_service.search.samplers import SAMPLERS, Question


@dataclass
class Runner:
    """A trial of a replay: which configuration, how far it came, and how it ended."""

    ordinal: int
    configuration: int
    run: Run
    reported: list[float] = field(default_factory=list)
    state: TrialState = TrialState.RUNNING

    def curve(self, evaluations: int) -> Curve:
        """Its curve as if it had so many evaluations: at each the latest that it had reported by that share of its way.

        Runs of a table differ in length; trials are compared at equal shares of theirs, as the product compares them.
        """
        own = self.run.cost
        by = {step: max(1, step * own // evaluations) for step in range(1, evaluations + 1)}
        told = {step: self.reported[at - 1] for step, at in by.items() if at <= len(self.reported)}
        return Curve(self.state, told, self.ordinal)


class Judge(Protocol):
    """Stops trials; one for each replay."""

    def stops(self, trial: Runner, others: Callable[[], Peers]) -> bool:
        """Whether a trial that has just reported ends here; the others are looked at where they are compared."""

    def ended(self, trial: Runner) -> None:
        """Hear that a trial has ended, of itself or as it was told."""


class Ours:
    """A pruner of the product."""

    def __init__(self, search: SearchSpec) -> None:
        self.search = search

    def stops(self, trial: Runner, others: Callable[[], Peers]) -> bool:
        """Ask the table of pruners."""
        case = Case(
            curve=dict(enumerate(trial.reported, start=1)),
            peers=others,
            search=self.search,
            evaluations=trial.run.cost,
            warmup=0.0,
            measure=Measure(direction=self.search.direction),
            ordinal=trial.ordinal,
        )
        return PRUNERS[self.search.pruner].judge(case).prune

    def ended(self, trial: Runner) -> None:
        """Learn nothing: peers have all of it."""


class Theirs:
    """A pruner of Optuna as it is, in a study of its own to which evaluations are reported by their number."""

    def __init__(self, pruner: optuna.pruners.BasePruner, search: SearchSpec) -> None:
        sampler = optuna.samplers.RandomSampler(seed=search.seed)
        self._study = optuna.create_study(direction=search.direction.value, sampler=sampler, pruner=pruner)
        self._trials: dict[int, optuna.Trial] = {}

    def stops(self, trial: Runner, others: Callable[[], Peers]) -> bool:
        """Report and ask."""
        del others  # it has its own study
        if trial.ordinal not in self._trials:
            self._trials[trial.ordinal] = self._study.ask()
        theirs = self._trials[trial.ordinal]
        theirs.report(trial.reported[-1], step=len(trial.reported))
        return len(trial.reported) < trial.run.cost and theirs.should_prune()

    def ended(self, trial: Runner) -> None:
        """Tell the study."""
        if trial.state is TrialState.COMPLETE and math.isfinite(trial.run.value):
            self._study.tell(self._trials[trial.ordinal], trial.run.value)
        else:
            self._study.tell(self._trials[trial.ordinal], state=Told.PRUNED)


@dataclass(frozen=True)
class Replay:
    """What came of one.

    Attributes:
        compute: evaluations made, as a share of those of every configuration.
        regret: how much worse the chosen configuration is than the best, in percent of the best value.
        lost: whether the best of the configurations tried was stopped.
    """

    compute: float
    regret: float
    lost: bool


def replay(problem: Problem, search: SearchSpec, trials: int, judge: Judge, parallel: int = 1) -> Replay:
    """Search a problem once.

    Args:
        problem: what is searched.
        search: sampler and seed.
        trials: how many configurations are tried.
        judge: who stops trials.
        parallel: trials that run side by side; they report in turn, each time in another order.
    """
    dice = random.Random(search.seed)
    field_ = _Field(problem, search, dice)
    running: list[Runner] = []
    while True:
        while len(running) < parallel and len(field_.trials) < trials:
            running.append(field_.next())
        if not running:
            return field_.result()
        for trial in dice.sample(running, len(running)):
            trial.reported.append(trial.run.reports[len(trial.reported)])
            field_.cost += 1
            if judge.stops(trial, partial(field_.peers, trial)):
                trial.state = TrialState.PRUNED
            elif len(trial.reported) == trial.run.cost:
                trial.state = TrialState.COMPLETE
            if trial.state is not TrialState.RUNNING:
                judge.ended(trial)
                field_.settle(trial)
        running = [trial for trial in running if trial.state is TrialState.RUNNING]


class _Field:
    """The trials of one replay, as samplers and pruners see them."""

    def __init__(self, problem: Problem, search: SearchSpec, dice: random.Random) -> None:
        self._problem, self._search, self._dice = problem, search, dice
        self._free = set(range(len(problem.configurations)))
        self._domain = {name: distribution_of(each) for name, each in problem.space.parameters.items()}
        self._settled: list[Runner] = []
        self._peers: dict[int, Peers] = {}
        self.trials: list[Runner] = []
        self.cost = 0

    def next(self) -> Runner:
        """Start the configuration that the sampler proposes, or the nearest to it that was not tried."""
        learns = SAMPLERS[self._search.sampler].learns
        told = [self._told(trial) for trial in self.trials] if learns else []
        question = Question(self._search, self._problem.space, len(self.trials), told)
        chosen = self._choose(SAMPLERS[self._search.sampler].candidates(question))
        self._free.remove(chosen)
        trial = Runner(len(self.trials), chosen, self._dice.choice(self._problem.runs[chosen]))
        self.trials.append(trial)
        return trial

    def _choose(self, candidates: Iterator[dict[str, ParameterValue]]) -> int:
        """As the product: a proposal that is taken is made again, and in the end the nearest free one is tried."""
        everything = range(len(self._problem.configurations))
        proposals = list(islice(candidates, 1))
        nearest = self._nearest(proposals[0], everything)
        if nearest in self._free:
            return nearest
        for proposal in islice(candidates, ATTEMPTS - 1):
            nearest = self._nearest(proposal, everything)
            if nearest in self._free:
                return nearest
        return self._nearest(proposals[0], sorted(self._free))

    def _nearest(self, proposal: Configuration, among: range | list[int]) -> int:
        known = self._problem.configurations
        return min(among, key=lambda at: sum(self._apart(name, proposal[name], known[at][name]) for name in proposal))

    def _apart(self, name: str, one: ParameterValue, other: ParameterValue) -> float:
        """Distance in one parameter: a share of its range, squared; choices are one range apart."""
        parameter = self._problem.space.parameters[name]
        if not isinstance(parameter, FloatParameter):
            return float(one != other)
        scale: Callable[[float], float] = math.log if parameter.log else float
        width = scale(parameter.high) - scale(parameter.low)
        return ((scale(float(one)) - scale(float(other))) / width) ** 2

    def _told(self, trial: Runner) -> FrozenTrial:
        states = {TrialState.RUNNING: Told.RUNNING, TrialState.COMPLETE: Told.COMPLETE, TrialState.PRUNED: Told.PRUNED}
        finite = math.isfinite(trial.run.value)
        state = states[trial.state] if finite or trial.state is not TrialState.COMPLETE else Told.PRUNED
        told = create_trial(
            state=state,
            value=trial.run.value if state is Told.COMPLETE else None,
            params=dict(self._problem.configurations[trial.configuration]),
            distributions=self._domain,
            intermediate_values=dict(enumerate(trial.reported, start=1)),
        )
        told.number = told._trial_id = trial.ordinal
        return told

    def peers(self, of: Runner) -> Peers:
        """The others; what was found in settled ones is remembered for each length of a run."""
        evaluations = of.run.cost
        peers = self._peers.setdefault(evaluations, Peers([]))
        peers.settled.extend(trial.curve(evaluations) for trial in self._settled[len(peers.settled) :])
        running = [trial for trial in self.trials if trial.state is TrialState.RUNNING and trial is not of]
        return peers.beside([trial.curve(evaluations) for trial in running if trial.reported])

    def settle(self, trial: Runner) -> None:
        """Note that a trial has ended."""
        self._settled.append(trial)

    def result(self) -> Replay:
        """What the study would choose, and what it cost."""
        values, badness = self._problem.values, self._problem.direction.badness
        complete = [t.configuration for t in self.trials if t.state is TrialState.COMPLETE]
        tried = [trial.configuration for trial in self.trials]
        own = {trial.configuration: badness(trial.run.value) for trial in self.trials}
        # where none is complete there is nothing to choose from: as bad as can be
        chosen = min(complete, key=own.__getitem__) if complete else max(tried, key=lambda at: badness(values[at]))
        best = min(tried, key=lambda at: own[at])
        return Replay(self.cost / self._problem.cost, self._problem.regret(chosen), own[best] < own[chosen])
