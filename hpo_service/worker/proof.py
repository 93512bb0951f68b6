"""The proof that trials of the built-in trainer can run here, which a worker wants before it claims the first."""

from __future__ import annotations

from collections.abc import Callable

from hpo_service.errors import UnfitWorkerError
from hpo_service.worker.child import training_command
from hpo_service.worker.child_slot import ChildSlot
from hpo_service.worker.child_watch import ChildWatch
from hpo_service.worker.device.hold import DeviceHold
from hpo_service.worker.options import WorkerOptions

STEP_SECONDS = 0.5
"""Longest wait of one step, between which signals are looked at."""
SILENCE_SECONDS = 600.0
"""How long a child that starts may say nothing: as long as its libraries may take from a slow network disk."""


class Proof:
    """Starts the child that the first trial will use, and waits until it says that its device works."""

    def __init__(
        self,
        options: WorkerOptions,
        slot: ChildSlot,
        watch: ChildWatch,
        device: DeviceHold,
        sleep: Callable[[float], object],
    ) -> None:
        self._options, self._slot, self._watch, self._device, self._sleep = options, slot, watch, device, sleep

    def given(self) -> bool:
        """Take one step; return whether the proof is there, or not needed.

        Raises:
            UnfitWorkerError: trials cannot run here.
        """
        if self._options.trainer is None:
            return True
        if self._slot.child is None:
            if self._device.held(self._slot.swept):
                self._sleep(STEP_SECONDS)
                return False
            self._start(self._options.trainer)
        self._watch.listen(STEP_SECONDS)
        if self._slot.child is None:
            raise UnfitWorkerError(f"the trainer does not start on this machine: {self._watch.ended}")
        if self._slot.hangs(SILENCE_SECONDS):
            raise UnfitWorkerError(f"the trainer did not start within {SILENCE_SECONDS:g} s: see {self._slot.log}")
        self._check_device()
        return self._slot.ready is not None

    def _start(self, processes: int) -> None:
        try:
            self._slot.child_for(training_command(processes), alone=True)
        except OSError as error:
            raise UnfitWorkerError(
                f"the trainer cannot be started: {error}; see that {self._slot.log} can be written and memory is left"
            ) from error

    def _check_device(self) -> None:
        if self._slot.ready == "cpu" and self._options.has.gpus:
            raise UnfitWorkerError(
                "the driver lists a GPU for this worker but torch cannot use it: install a torch that was built for "
                "this driver, or set CUDA_VISIBLE_DEVICES to nothing to train on the CPU"
            )
