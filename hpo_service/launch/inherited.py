"""What workers get from where they are launched: the installation's command, and variables of its environment."""

from __future__ import annotations

import os
import sys

OWN_COMMAND = (sys.executable, "-m", "hpo_service")
"""How this very installation is started once more."""
PASSED_ON = (
    "HPO_SERVICE_CACHE",
    "HPO_SERVICE_STORE",
    "HPO_SERVICE_LABELS",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
)
"""Variables that workers get as they are set here; they hold no secrets."""
CREDENTIALS = (
    "PGPASSWORD",
    "HF_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
)
"""Variables that workers get besides the database's URL, and that nobody else may read."""


def set_here(names: tuple[str, ...]) -> dict[str, str]:
    """Return those of these variables that are set."""
    return {name: os.environ[name] for name in names if os.environ.get(name)}
