"""Which engine runs what: trials that may share the device are packed, all others run alone."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.training.engines.packed.engine import PackedEngine
from hpo_service.training.engines.solo import SoloEngine
from hpo_service.wire.child import Dispatcher


@dataclass
class Engines:
    """The two engines of a process, on the same loaded models."""

    solo: SoloEngine
    packed: PackedEngine

    def work(self, dispatcher: Dispatcher) -> None:
        """Run what waits: one trial, or a pack for as long as trials like its first come."""
        waiting = dispatcher.waiting()
        if waiting is None:
            return
        shared = waiting.slots > 1 and self.solo.ranks.size == 1
        reason = self.packed.refusal(waiting.config) if shared else ""
        if shared and not reason:
            self.packed.serve(dispatcher)
            return
        if reason:
            # others would only wait beside it
            dispatcher.announce_capacity(1, reason)
        dispatcher.run(dispatcher.take_next(), self.solo.run)
