"""Packs of tiny trials in this process, and the same trials alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.decision import Action
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.domain.trial.report import Report
from hpo_service.training.device.faults import is_fatal
from hpo_service.training.engines.choose import Engines
from hpo_service.training.engines.packed.engine import PackedEngine
from hpo_service.training.engines.packed.pack import Pack
from hpo_service.training.run.job import Job
from hpo_service.wire.child import Dispatcher, TrialLink
from hpo_service.wire.messages import Admit, Capacity, Reported, Stop
from tests import trials
from tests.training.tiny import Crowd, DecideFor, Trainee

OOM = "CUDA out of memory. Tried to allocate 2.00 GiB"


class Workshop:
    """One resident base, and a folder of its own; what is known of packing is forgotten with each of them."""

    def __init__(self, trainee: Trainee, folder: Path) -> None:
        self.trainee, self.folder = trainee, folder
        self.solo = trainee.engine
        self.packed = PackedEngine(self.solo.loaded, self.solo.run)
        self.status: int | None = None

    def config(self, **changes: Any) -> TrialConfig:
        return self.trainee.config(**changes)

    def admit(self, trial: str, config: TrialConfig, slots: int = 8, *, measure: bool = False) -> Admit:
        return trials.admit(config, self.folder / trial, trial, slots=slots, measure=measure)

    def run(
        self,
        configs: Mapping[str, TrialConfig],
        *,
        slots: int = 8,
        measure: bool = False,
        decide: DecideFor = lambda trial, report: None,
        later: Mapping[int, Mapping[str, TrialConfig]] | None = None,
        told: Callable[[Crowd, Any], None] | None = None,
    ) -> Crowd:
        """Serve these trials until all have ended.

        `later` are admitted when so many reports were heard; `told` sees every message to the supervisor.
        """
        queued = {n: [self.admit(*each, slots) for each in more.items()] for n, more in (later or {}).items()}
        crowd = Listening(decide, queued, told)
        crowd.inbox.extend(self.admit(trial, config, slots, measure=measure) for trial, config in configs.items())
        self.status = Dispatcher(crowd, Engines(self.solo, self.packed).work, is_fatal).serve()
        return crowd

    def link(self, config: TrialConfig | None = None) -> TrialLink:
        """A trial's link with nobody at its other end."""
        silent = Crowd(lambda trial, report: None)
        return TrialLink(self.admit("t", config or self.config()), silent, lambda timeout: False)

    def job(self, config: TrialConfig | None = None) -> Job:
        """A trial with what it needs at hand."""
        return Job.of(self.link(config), self.solo.loaded, "packed")

    def alone(self, config: TrialConfig, folder: str = "") -> tuple[Outcome, list[Report]]:
        """The solo engine's outcome and reports."""
        folder = folder or str(self.folder / f"solo-{abs(hash(config.model_dump_json()))}")
        outcome = self.trainee.run(config, folder, engine=self.solo)
        return outcome, self.trainee.reports


class Listening(Crowd):
    """A crowd that lets a test see each message as it is sent."""

    def __init__(
        self, decide: DecideFor, later: dict[int, list[Admit]], told: Callable[[Crowd, Any], None] | None
    ) -> None:
        super().__init__(decide, later)
        self.told = told

    def send(self, message: Any) -> None:
        super().send(message)
        if self.told is not None:
            self.told(self, self.sent[-1])


def reports(crowd: Crowd, trial: str) -> list[Report]:
    return [message.report for message in crowd.of(Reported) if message.trial == trial]


def capacities(crowd: Crowd) -> list[int]:
    return [message.slots for message in crowd.of(Capacity)]


def reasons(crowd: Crowd) -> list[str]:
    return [message.reason for message in crowd.of(Capacity)]


def stop(trial: str, action: Action) -> Stop:
    return trials.stop(action, trial=trial)


class Passage:
    """Watches every tick of every pack, and breaks those it is told to.

    `before` is called with the number of the tick (from 1), the pack and the shares; what it raises, the tick raises.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.rooms: list[int] = []
        self.before: Callable[[int, Pack, Any], None] = lambda number, pack, shares: None
        plain = Pack.forward_backward

        def forward_backward(pack: Pack, shares: Any) -> torch.Tensor:
            self.sizes.append(len(shares))
            self.rooms.append(pack.places)
            self.before(len(self.sizes), pack, shares)
            return plain(pack, shares)

        patch.setattr(Pack, "forward_backward", forward_backward)


def slot_of(pack: Pack, trial: str) -> Any:
    return next(slot for slot in pack.slots if slot.job.link.assignment.study == trial)
