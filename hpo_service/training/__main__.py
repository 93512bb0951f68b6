"""The trainer child: `python -m hpo_service.training` speaks JSON lines over its standard input and output."""

from __future__ import annotations

import gc
import logging
import os
import sys
from pathlib import Path

from hpo_service.channel import Channel, Host, in_turn

# What the supervisor reads on our standard error should be ours; none of this changes a number.
QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "BITSANDBYTES_NOWELCOME": "1",
}
# Seconds the libraries may take to be imported, from a slow network disk.
IMPORT_SECONDS = 600.0


def main() -> int:
    """Serve trials until the supervisor shuts down or is gone; return the exit status."""
    channel = Channel.over_stdio()
    use_one_device()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with channel.busy("starting", IMPORT_SECONDS):
        from hpo_service.training.faults import is_fatal, set_threads
        from hpo_service.training.residents import Residents
        from hpo_service.training.solo import SoloEngine

        set_threads()
        # What the imports left is never garbage; unfrozen, the Trainer's collection before each trial walks it all.
        gc.freeze()
    return Host(channel, in_turn(SoloEngine(Residents(cache_folder())).run), is_fatal).serve()


def use_one_device() -> None:
    """Show torch one GPU: the first that this process was given, or the machine's first. Said before its import.

    A Trainer that sees several would spread each batch over them, and the numbers would depend on the machine.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = given.split(",")[0]


def cache_folder() -> Path:
    """The user's cache: HPO_SERVICE_CACHE, or the platform's usual place."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("HPO_SERVICE_CACHE") or user_cache_dir("hpo-service"))


if __name__ == "__main__":
    sys.exit(main())
