"""A worker's world in miniature: a clock that moves when someone waits, a queue and a child that follow a script."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.objective import ObjectiveSpec
from hpo_service.domain.trial.assignment import Assignment, Lease
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.decision import Decision
from hpo_service.domain.trial.model_facts import ModelFacts
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import ChildError, DatabaseUnavailableError, NotFoundError, StaleLeaseError
from hpo_service.service.trials.budget import NO_LIMITS, Limits, Withheld
from hpo_service.service.trials.queue import Copied, Renewal
from hpo_service.wire.messages import (
    Admit,
    Capacity,
    Continue,
    Failed,
    Finished,
    Heartbeat,
    Ready,
    Reported,
    Started,
    Stop,
    Unusable,
)
from hpo_service.worker.options import WorkerOptions
from hpo_service.worker.supervisor import Supervisor

FACTS = {"small": ModelFacts(family="llama", hidden_size=64)}
GO_ON = Decision(action="continue", reason="go on")
ENDS = {
    OutcomeKind.COMPLETE: TrialState.COMPLETE,
    OutcomeKind.PRUNED: TrialState.PRUNED,
    OutcomeKind.INFEASIBLE: TrialState.INFEASIBLE,
    OutcomeKind.CANCELLED: TrialState.CANCELLED,
}
TOO_LATE = 50_000.0


class Clock:
    """Monotonic seconds; whoever waits moves it, and what was planned for that time happens on the way."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._planned: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        return self.now

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Plan something for that many seconds after the start."""
        heapq.heappush(self._planned, (1000.0 + seconds, next(self._order), action))

    @property
    def passed(self) -> float:
        return self.now - 1000.0

    def wait(self, seconds: float) -> None:
        assert self.passed < TOO_LATE, "the worker never came to an end"
        until = self.now + max(seconds, 0.001)
        while self._planned and self._planned[0][0] <= until:
            time, _, action = heapq.heappop(self._planned)
            self.now = max(self.now, time)
            action()
        self.now = max(self.now, until)


def assignment(number: int, *, attempt: int = 1, **changes: Any) -> Assignment:
    """A claimed trial of the built-in trainer, or of an objective where one is given."""
    objective = changes.pop("objective", None)
    config = TrialConfig(
        study="s",
        stage="search",
        parameters={"x": number},
        seed=1,
        objective=ObjectiveSpec(python=objective) if objective else None,
        model=None if objective else ModelSpec(base="small", target="large"),
        model_name=None if objective else "small",
    )
    values: dict[str, Any] = {"lease_seconds": 60.0, "hang_seconds": 600.0, "slots": 1, **changes}
    lease = Lease(trial_id=number, token=attempt)
    return Assignment(lease=lease, study="s", stage="search", number=number, attempt=attempt, config=config, **values)


@dataclass
class FakeQueue:
    """Stands for the trial queue and its database; every call that got through is kept with its time."""

    clock: Clock
    waiting: deque[Assignment] = field(default_factory=deque)
    away: bool = False
    stale: set[int] = field(default_factory=set)
    deleted: bool = False
    draining: bool = False
    decisions: dict[tuple[int, int], Decision] = field(default_factory=dict)
    asked: dict[int, Decision] = field(default_factory=dict)
    forget_answer_of: set[str] = field(default_factory=set)
    log: list[tuple[float, str, Any]] = field(default_factory=list)
    activities: list[str] = field(default_factory=list)
    tries: list[tuple[float, str]] = field(default_factory=list)
    reports: dict[int, list[int]] = field(default_factory=dict)
    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)
    retries: int = 0
    copies: int = 0
    on_claim: Callable[[], object] = lambda: None
    on_renew: Callable[[], object] = lambda: None
    withholds: Callable[[Limits], Withheld | None] = lambda _: None

    def claim(
        self,
        worker_id: str,
        study: str | None,
        together: int = 1,
        left: Collection[str] = (),
        limits: Limits = NO_LIMITS,
    ) -> Assignment | Copied | Withheld | None:
        self._reach("claim", study)
        self.on_claim()
        if self.waiting and (forbidden := self.withholds(limits)):
            return forbidden
        if self.copies:
            self.copies -= 1
            return Copied()
        found = next((each for each in self.waiting if each.study not in left), None)
        if found is not None:
            self.waiting.remove(found)
        return found

    def describe(self, study: str, facts: Mapping[str, ModelFacts]) -> None:
        self._reach("describe", facts)
        if self.deleted:
            raise NotFoundError(f"there is no study {study}")

    def report(self, lease: Lease, report: Report) -> Decision:
        self._hold(lease)
        seen = self.reports.setdefault(lease.trial_id, [])
        if report.step not in seen:
            seen.append(report.step)
        self._reach("report", (lease.trial_id, report.step), committed=True)
        return self.decisions.get((lease.trial_id, report.step), GO_ON)

    def renew(self, worker_id: str, progress: Mapping[Lease, float], activity: str = "") -> Renewal:
        self._reach("renew", {lease.trial_id: share for lease, share in progress.items()})
        self.activities.append(activity)
        self.on_renew()
        decisions = {}
        for lease in progress:
            lost = Decision(action="abandon", reason="taken by somebody else")
            decisions[lease] = lost if lease.trial_id in self.stale else self.asked.get(lease.trial_id, GO_ON)
            if self.draining:
                decisions[lease] = Decision(action="release", reason="the worker was told to drain")
        return Renewal(decisions, self.draining)

    def finish(self, lease: Lease, outcome: Outcome) -> TrialState:
        self._hold(lease)
        self.outcomes.append((lease.trial_id, outcome))
        self.stale.add(lease.trial_id)
        self._reach("finish", lease.trial_id, committed=True)
        if outcome.kind in ENDS:
            return ENDS[outcome.kind]
        if outcome.kind is OutcomeKind.ERROR and self.retries > 0:
            self.retries -= 1
            again = assignment(lease.trial_id, attempt=lease.token + 1)
            self.stale.discard(lease.trial_id)
            self.waiting.append(again)
            return TrialState.WAITING
        return TrialState.FAILED if outcome.kind is OutcomeKind.ERROR else TrialState.WAITING

    def kinds(self) -> list[OutcomeKind]:
        """How attempts ended, in the order they were settled."""
        return [outcome.kind for _, outcome in self.outcomes]

    def times(self, call: str) -> list[float]:
        """Seconds after the start at which this call got through."""
        return [time for time, name, _ in self.log if name == call]

    def _reach(self, call: str, about: Any, *, committed: bool = False) -> None:
        if not committed:
            self._answerable(call)
        self.log.append((self.clock.passed, call, about))
        if call in self.forget_answer_of:
            self.forget_answer_of.remove(call)
            raise DatabaseUnavailableError("the connection broke in the commit")

    def _answerable(self, call: str) -> None:
        self.tries.append((self.clock.passed, call))
        if self.away:
            raise DatabaseUnavailableError("the database is away")

    def _hold(self, lease: Lease) -> None:
        self._answerable("write")
        if lease.trial_id in self.stale:
            raise StaleLeaseError(f"trial {lease.trial_id} is no longer held: stop working on it")


@dataclass
class Script:
    """How the children of a test behave.

    Attributes:
        steps: reports per trial.
        seconds: between two of them, and from admission to the first.
        starts_in: seconds from admission to the first word about it.
        obeys_in: seconds from an order to stop to the end; None never.
        breaks: per trial, what happens instead of that step: an exception or a message to send, or None: silence.
        beats: whether heartbeats are sent every second.
        first_word: what is said, or happens, 20 seconds after the start.
    """

    steps: int = 3
    seconds: float = 10.0
    starts_in: float = 0.1
    obeys_in: float | None = 1.0
    breaks: dict[tuple[int, int], Exception | Failed | Finished | None] = field(default_factory=dict)
    beats: bool = True
    first_word: Ready | Unusable | Exception | None = None


class FakeChild:
    """A child in this process: answers what it is sent after the seconds its script says, by the world's clock."""

    def __init__(
        self, script: Script, command: tuple[str, ...], log: Path, environment: Mapping[str, str], clock: Clock
    ) -> None:
        self.script, self.command, self.log, self.environment, self._clock = script, command, log, environment, clock
        self.sent: list[tuple[float, Any]] = []
        self.admitted: dict[str, Admit] = {}
        self.step: dict[str, int] = {}
        self.reported: dict[str, float] = {}
        self.stopping: set[str] = set()
        self.ended = self.killed = self.closed = False
        self.swept: set[int] = set()
        self._due: list[tuple[float, int, Any]] = []
        self._order = itertools.count()
        self._last_heard = clock()
        self._plan(0.5, Heartbeat())
        if script.first_word is not None:
            self._plan(20.0, script.first_word)

    @property
    def silence(self) -> float:
        return self._clock() - self._last_heard

    def restart_silence(self) -> None:
        self._last_heard = self._clock()

    def send(self, message: Any) -> None:
        self.sent.append((self._clock.passed, message))
        if isinstance(message, Admit):
            self.admitted[message.trial] = message
            self.step[message.trial] = 0
            if message.assignment.slots > 1 and len(self.admitted) == 1:
                self.say(Capacity(slots=message.assignment.slots, reason="they fit"))
            models = FACTS if message.assignment.config.models else {}
            self._plan(self.script.starts_in, Started(trial=message.trial, models=models))
            self._plan_step(message.trial)
        elif isinstance(message, Continue) and message.trial not in self.stopping:
            self._plan_step(message.trial)
        elif isinstance(message, Stop) and self.script.obeys_in is not None:
            self.stopping.add(message.trial)
            self._due = [d for d in self._due if getattr(d[2], "trial", None) != message.trial]
            heapq.heapify(self._due)
            if message.saves:
                self.save(message.trial)
            decision, value = message.decision, self.reported.get(message.trial)
            outcome = Outcome(kind=decision.ends_as, reason=decision.reason, value=value)
            self._plan(self.script.obeys_in, Finished(trial=message.trial, outcome=outcome))

    def save(self, trial: str) -> None:
        """Leave a checkpoint, as a child does that was told to."""
        folder = self.admitted[trial].folder / "checkpoint"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "position").write_text(f"{self.step[trial]}")

    def receive(self, timeout: float) -> Any:
        due = self._due[0][0] if self._due else float("inf")
        if due > self._clock() + timeout:
            self._clock.wait(timeout) if timeout else None
            return None
        if due > self._clock():
            self._clock.wait(due - self._clock())
        if not self._due:
            return None
        _, _, message = heapq.heappop(self._due)
        self._last_heard = self._clock()
        if isinstance(message, Heartbeat) and self.script.beats:
            shares = {trial: step / self.script.steps for trial, step in self.step.items()}
            self._plan(1.0, Heartbeat(progress=shares))
        if isinstance(message, Exception):
            raise message
        if isinstance(message, Reported):
            self.reported[message.trial] = message.report.value
        return message

    def say(self, message: Any) -> None:
        """Have something said at once."""
        self._plan(0.0, message)

    def kill(self) -> None:
        self.killed = self.ended = True
        self._due.clear()

    def close(self) -> None:
        self.closed = self.ended = True

    def orders(self, kind: type) -> list[tuple[float, Any]]:
        """The messages of this kind that were sent to it, with their times."""
        return [(time, message) for time, message in self.sent if isinstance(message, kind)]

    def _plan(self, seconds: float, message: Any) -> None:
        heapq.heappush(self._due, (self._clock() + seconds, next(self._order), message))

    def _plan_step(self, trial: str) -> None:
        self.step[trial] += 1
        step, number = self.step[trial], int(trial.split("/")[1].rpartition("-")[2])
        if (number, step) in self.script.breaks:
            instead = self.script.breaks.pop((number, step))
            if instead is None:
                self.script.beats = False
            else:
                said = (
                    instead.model_copy(update={"trial": trial}) if isinstance(instead, Failed | Finished) else instead
                )
                self._plan(self.script.seconds, said)
            return
        if step > self.script.steps:
            outcome = Outcome(kind=OutcomeKind.COMPLETE, reason="all steps done", value=0.5)
            self._plan(0.2, Finished(trial=trial, outcome=outcome))
            return
        report = Report(step=step, fraction=step / self.script.steps, value=3.0 - step)
        self._plan(self.script.seconds, Reported(trial=trial, report=report))


class FakeJanitor:
    """Stages and reaper in one; counts how often it was asked."""

    def __init__(self, queue: FakeQueue) -> None:
        self._queue = queue
        self.advanced: list[float] = []
        self.reaped: list[float] = []
        self.spared: list[Collection[int]] = []
        self.moves: deque[Callable[[], object]] = deque()

    def advance_all(self) -> bool:
        self._queue._answerable("advance")
        self.advanced.append(self._queue.clock.passed)
        if self.moves:
            self.moves.popleft()()
            return True
        return False

    def reap(self, held: Collection[int] = ()) -> list[Any]:
        self._queue._answerable("reap")
        self.spared.append(held)
        self.reaped.append(self._queue.clock.passed)
        return []


class World:
    """One worker with everything around it faked."""

    def __init__(self, output: Path) -> None:
        self.clock = Clock()
        self.queue = FakeQueue(self.clock)
        self.janitor = FakeJanitor(self.queue)
        self.script = Script()
        self.children: list[FakeChild] = []
        self.output = output
        self.ended: set[str] = set()
        self.start_failure: OSError | None = None
        self.look_at_machine: Callable[[], object] = lambda: None
        self.device_users: Callable[[], list[int]] = list

    @property
    def child(self) -> FakeChild:
        """The child started last."""
        return self.children[-1]

    def worker(self, **options: Any) -> Supervisor:
        """The worker, not yet running; by default it ends when no trial waits."""
        options.setdefault("until_finished", True)
        queue: Any = self.queue
        janitor: Any = self.janitor
        starter: Any = self._start
        given = WorkerOptions(id="w", output=self.output, **options)
        clock = self.clock
        return Supervisor(
            queue,
            janitor,
            janitor,
            self._finished,
            given,
            clock,
            clock.wait,
            starter,
            look_at_machine=lambda: self.look_at_machine(),
            device_users=lambda: self.device_users(),
            ended=self.ended.intersection,
        )

    def run(self, *assignments: Assignment, **options: Any) -> None:
        """Have a worker work through these trials."""
        self.queue.waiting.extend(assignments)
        self.worker(**options).run()

    def outage(self, begin: float, end: float) -> None:
        """Plan a time without the database."""
        self.queue.away = begin <= 0
        self.clock.at(begin, lambda: setattr(self.queue, "away", True))
        self.clock.at(end, lambda: setattr(self.queue, "away", False))

    def _finished(self) -> bool:
        self.queue._answerable("finished")
        return not self.queue.waiting and not self.janitor.moves

    def _start(self, command: Any, log: Path, environment: Any, clock: Any) -> FakeChild:
        if self.start_failure is not None:
            raise self.start_failure
        self.children.append(FakeChild(self.script, command, log, environment, clock))
        return self.children[-1]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh world."""
    return World(tmp_path)


@pytest.fixture
def trial() -> Callable[..., Assignment]:
    """Makes assignments by number."""
    return assignment


@pytest.fixture
def died() -> ChildError:
    """What the supervisor's end of the pipe raises when its child is gone."""
    return ChildError("the child process was killed by SIGSEGV; its log is worker.log")
