"""The trainer with faults: a trial named `fault=rank,step,what` breaks on that rank in that optimizer step."""

from __future__ import annotations

import math
import os
import signal
import sys

from hpo_service.training import __main__ as trainer


def add_faults() -> None:
    import torch

    from hpo_service.training.engines.data_parallel import DataParallelTrainer
    from hpo_service.training.engines.solo import SoloEngine

    run, compute_loss = SoloEngine.run, DataParallelTrainer.compute_loss
    trial = [""]

    def named_run(engine, link):
        trial[0] = link.assignment.study
        # the processes are shared by tests, also after a trial that wants them replaced
        return run(engine, link).model_copy(update={"restart": False})

    def broken_loss(self, *given, **named):
        name, _, fault = trial[0].partition("=")
        if name == "fault":
            rank, step, what = fault.split(",")
            if (self.ranks.rank, self.state.global_step) == (int(rank), int(step)):
                happen(what, torch, self)
        return compute_loss(self, *given, **named)

    SoloEngine.run, DataParallelTrainer.compute_loss = named_run, broken_loss


def happen(what: str, torch, trainer) -> None:
    if what == "nan":
        trainer._local_loss += math.nan
        return
    if what == "memory":
        if trainer.args.per_device_train_batch_size == trainer.ranks.size:
            return
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("a strange error")


if __name__ == "__main__":
    start = trainer.start

    def faulty_start(rank):
        engine = start(rank)
        add_faults()
        return engine

    trainer.start = faulty_start
    sys.exit(trainer.main())
