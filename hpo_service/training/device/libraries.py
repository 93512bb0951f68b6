"""Settings of the libraries that train, said before they are imported: what they write should be ours."""

from __future__ import annotations

import os

QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "BITSANDBYTES_NOWELCOME": "1",
}
"""Variables that keep libraries from writing to our standard error; none of them changes a number."""


def keep_quiet() -> None:
    """Have libraries imported from here on write only what went wrong; what the user has set stands."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
