"""Running `package.module:function` as a trial."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo_service.domain.study.sections.objective import ObjectiveSpec
from hpo_service.domain.trial.decision import Action
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import TrialError
from hpo_service.objective.__main__ import run_objective
from hpo_service.objective.function import run_function
from hpo_service.wire.child import Dispatcher, Stopped, TrialLink, in_turn
from hpo_service.wire.messages import Failed, Finished, Shutdown
from tests.trials import admit, stop

Link = Callable[..., TrialLink]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module of the user's and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def module(text: str) -> str:
        names.append(f"own_objective_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(textwrap.dedent(text))
        return names[-1]

    yield module
    for name in names:
        sys.modules.pop(name, None)


Module = Callable[[str], str]

TRAINS = """
    def objective(trial):
        for step in range(1, 6):
            trial.report(step, 1.0 / step)
            if trial.should_stop():
                return None
        return trial.parameters["lr"] * 2
"""


def test_a_function_reports_and_returns_its_value(link: Link, talk: Any, module: Module) -> None:
    outcome = run_function(f"{module(TRAINS)}:objective", link())
    assert (outcome.kind, outcome.value) == (OutcomeKind.COMPLETE, 0.2)
    assert [report.step for report in talk.reports] == [1, 2, 3, 4, 5]
    assert talk.started == 1


def test_a_function_may_be_an_attribute_of_an_attribute(link: Link, module: Module) -> None:
    name = module("class Tasks:\n    class Small:\n        run = staticmethod(lambda trial: 3)")
    assert run_function(f"{name}:Tasks.Small.run", link()).value == 3.0


@pytest.mark.parametrize("value", ["1", "1.5", "__import__('numpy').float32(2.5)", "float('nan')"])
def test_every_kind_of_number_is_a_value(link: Link, module: Module, value: str) -> None:
    outcome = run_function(f"{module(f'objective = lambda trial: {value}')}:objective", link())
    assert outcome.kind is OutcomeKind.COMPLETE
    assert isinstance(outcome.value, float)


@pytest.mark.parametrize("value", ["None", "'0.5'", "True", "[1.0]", "{'loss': 1.0}"])
def test_what_is_not_a_number_is_refused_and_named(link: Link, module: Module, value: str) -> None:
    name = f"{module(f'objective = lambda trial: {value}')}:objective"
    with pytest.raises(TrialError, match=rf"objective {name} returned .* must return a number") as caught:
        run_function(name, link())
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "text, attribute, words",
    [
        (None, "objective", "cannot be imported"),
        ("", "objective", "no attribute 'objective'"),
        ("class A: pass", "A.objective", "no attribute 'objective'"),
        ("import no_such_package_at_all", "objective", "no_such_package_at_all"),
        ("def objective(", "objective", "cannot be imported"),
        ("objective = 3", "objective", "is not a function"),
    ],
)
def test_a_function_that_cannot_be_found_is_named_and_not_tried_again(
    link: Link, talk: Any, module: Module, text: str | None, attribute: str, words: str
) -> None:
    name = "no_such_module" if text is None else module(text)
    with pytest.raises(TrialError, match=words) as caught:
        run_function(f"{name}:{attribute}", link())
    assert f"{name}:{attribute}" in str(caught.value)
    assert not caught.value.retryable
    assert talk.started == 0


@pytest.mark.parametrize("action, kind", [("prune", OutcomeKind.PRUNED), ("release", OutcomeKind.RELEASED)])
def test_a_function_that_obeys_ends_as_it_was_asked(
    link: Link, talk: Any, module: Module, action: Action, kind: OutcomeKind
) -> None:
    talk.orders[2] = stop(action, "because")
    outcome = run_function(f"{module(TRAINS)}:objective", link())
    assert (outcome.kind, outcome.reason) == (kind, "because")
    assert len(talk.reports) == 2


def test_a_function_that_ignores_the_order_is_stopped_at_its_next_report(link: Link, talk: Any, module: Module) -> None:
    name = module(
        "def objective(trial):\n    for step in range(1, 9):\n        trial.report(step, 1.0)\n    return 1.0"
    )
    talk.orders[2] = stop("prune", "too far behind")
    with pytest.raises(Stopped):
        run_function(f"{name}:objective", link())
    assert len(talk.reports) == 2


def test_what_a_function_raises_is_passed_on(link: Link, module: Module) -> None:
    name = module("def objective(trial):\n    raise RuntimeError('the GPU fell off')")
    with pytest.raises(RuntimeError, match="the GPU fell off"):
        run_function(f"{name}:objective", link())


# as the child runs it


class Inbox:
    """A channel with everything said beforehand."""

    def __init__(self, *messages: Any) -> None:
        self._messages = list(messages)
        self.sent: list[Any] = []

    def receive(self, timeout: float | None = None) -> Any:
        return self._messages.pop(0) if self._messages and timeout is None else None

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def touch(self, *_: Any) -> None: ...

    def forget(self, trial: str) -> None: ...

    def close(self) -> None: ...


def _run(link: Link, name: str | None) -> Any:
    config = link().config.model_copy(update={"objective": ObjectiveSpec(python=name) if name else None})
    channel: Any = Inbox(admit(config, "f"), Shutdown())
    assert Dispatcher(channel, in_turn(run_objective)).serve() == 0
    return channel.sent[-1]


def test_the_child_runs_functions(link: Link, module: Module) -> None:
    message = _run(link, f"{module('objective = lambda trial: 2')}:objective")
    assert isinstance(message, Finished)
    assert message.outcome.value == 2.0


@pytest.mark.parametrize(
    "text, retryable, reason",
    [
        ("import no_such_package_at_all", False, "objective .* cannot be imported"),
        ("objective = lambda trial: None", False, "must return a number"),
        ("objective = lambda trial: 1 / 0", True, "ZeroDivisionError: division by zero"),
        ("import sys\nobjective = lambda trial: sys.exit(3)", True, "SystemExit: 3"),
        ("raise OSError('the disk is away')", True, "OSError: the disk is away"),
    ],
)
def test_the_child_says_whether_another_attempt_may_help(
    link: Link, module: Module, text: str, retryable: bool, reason: str
) -> None:
    message = _run(link, f"{module(text)}:objective")
    assert isinstance(message, Failed)
    assert message.retryable is retryable
    assert re.search(reason, message.reason)


def test_a_trial_without_an_objective_is_refused(link: Link) -> None:
    message = _run(link, None)
    assert isinstance(message, Failed)
    assert "belongs to the built-in trainer" in message.reason
