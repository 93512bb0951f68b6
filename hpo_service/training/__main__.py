"""The trainer child: `python -m hpo_service.training` speaks JSON lines over its standard input and output."""

from __future__ import annotations

import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_service.filestore.attempts import restore
from hpo_service.training.device.libraries import keep_quiet
from hpo_service.training.distributed.follower import end_with_launcher, follow, leave_stdio_to_leader
from hpo_service.wire.child import Channel, Dispatcher, reason_of
from hpo_service.wire.messages import Ready, Unusable

if TYPE_CHECKING:
    from hpo_service.training.engines.solo import SoloEngine

# Seconds the libraries may take to be imported, from a slow network disk.
IMPORT_SECONDS = 600.0


def main() -> int:
    """Serve trials until the supervisor shuts down or is gone; return the exit status."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        end_with_launcher()
    if rank > 0:
        leave_stdio_to_leader()
        with without_collecting_garbage():
            engine = start(rank)
        return follow(engine.ranks, engine.run)
    channel = Channel.over_stdio()
    try:
        with channel.busy("starting", IMPORT_SECONDS), without_collecting_garbage():
            engine = start(rank)
            from hpo_service.training.device.environment import try_device
            from hpo_service.training.device.faults import is_fatal, will_recur
            from hpo_service.training.engines.choose import Engines
            from hpo_service.training.engines.packed.engine import PackedEngine

            channel.send(Ready(device=try_device()))
    except Exception as error:
        logging.getLogger(__name__).exception("trials cannot run here")
        channel.send(Unusable(reason=why_unusable(error)))
        channel.close()
        return 1
    engines = Engines(engine, PackedEngine(engine.loaded, engine.run))
    status = Dispatcher(channel, engines.work, is_fatal, will_recur, restore).serve()
    if status == 0:
        engine.ranks.announce(None)
    return status


def start(rank: int) -> SoloEngine:
    """Import the libraries and make an engine; where a launcher started several processes, meet the others."""
    use_one_device(rank)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    keep_quiet()
    # libraries speak to each other's authors; neither line is about anything that a user could change
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from hpo_service.training.device.faults import set_threads
    from hpo_service.training.distributed.process_group import ProcessGroup
    from hpo_service.training.engines.solo import SoloEngine
    from hpo_service.training.run.loaded_models import LoadedModels

    set_threads()
    return SoloEngine(LoadedModels(cache_folder(), ProcessGroup.join()))


def why_unusable(error: Exception) -> str:
    """Say in one line why no trial can run in this process, and what to do."""
    if isinstance(error, ImportError):
        return f"the trainer's libraries cannot be loaded ({reason_of(error)}): pip install 'hpo-service[train]'"
    return f"the trainer cannot use this machine ({reason_of(error)}): see nvidia-smi and the worker's log"


@contextmanager
def without_collecting_garbage() -> Iterator[None]:
    """Import without collecting garbage, and never look through what the imports left.

    There is none in them: looking for it takes a quarter of their time, and as long again in the Trainer's own
    collection before each trial.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def use_one_device(rank: int = 0) -> None:
    """Show torch one GPU: the rank's of those that this process was given, or of the machine's. Said before its import.

    A Trainer that sees several would spread each batch over them, and the numbers would depend on the machine.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES", str(rank)).split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = given[rank % len(given)]


def cache_folder() -> Path:
    """The user's cache: HPO_SERVICE_CACHE, or the platform's usual place."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("HPO_SERVICE_CACHE") or user_cache_dir("hpo-service"))


if __name__ == "__main__":
    sys.exit(main())
