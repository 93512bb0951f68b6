"""Where things are kept, read from the environment: the database, the output folder, the cache."""

from __future__ import annotations

import getpass
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_cache_path

DATABASE_FILE = "hpo-service.db"
"""Name of the SQLite file in the output folder where no database is named."""

SECRETS = frozenset({"HPO_SERVICE_STORAGE", "PGPASSWORD"})
"""Variables that may hold the database's password: for workers, and not for what trains or the code of users."""


@dataclass(frozen=True)
class Settings:
    """Places on this machine, and the database's URL.

    Attributes:
        storage: URL of the database (HPO_SERVICE_STORAGE; by default a SQLite file in the output folder).
        output: folder of studies' results (HPO_SERVICE_OUTPUT; by default ./hpo-output).
        cache: folder of what can be made again, such as models (HPO_SERVICE_CACHE; by default the user's).
        store: URL or folder that the nodes share, to which checkpoints, adapters and reports are copied
            (HPO_SERVICE_STORE; by default none: they stay in the output folder).
        labels: what studies may ask of workers here (HPO_SERVICE_LABELS, with commas between).
    """

    storage: str = field(repr=False)  # it may hold a password
    output: Path
    cache: Path
    labels: tuple[str, ...] = ()
    store: str = field(default="", repr=False)

    @property
    def may_have_database(self) -> bool:
        """Whether a database may be where the URL says: its file is there, or a server is named."""
        file = self.storage.removeprefix("sqlite:///").partition("?")[0]
        return not self.storage.startswith("sqlite:") or Path(file).exists()

    @classmethod
    def read(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        storage: str | None = None,
        output: Path | None = None,
        cache: Path | None = None,
    ) -> Settings:
        """Read the environment (this process's own by default); what is given as an argument wins."""
        env = os.environ if environment is None else environment
        output = (output or Path(env.get("HPO_SERVICE_OUTPUT") or "hpo-output")).expanduser().absolute()
        cache = cache or Path(env.get("HPO_SERVICE_CACHE") or user_cache_path("hpo-service"))
        storage = storage or env.get("HPO_SERVICE_STORAGE") or f"sqlite:///{output / DATABASE_FILE}"
        labels = tuple(label.strip() for label in env.get("HPO_SERVICE_LABELS", "").split(",") if label.strip())
        store = env.get("HPO_SERVICE_STORE", "").strip()
        if store and "://" not in store:
            store = str(Path(store).expanduser().absolute())
        return cls(storage=storage, output=output, cache=cache.expanduser().absolute(), labels=labels, store=store)


def person() -> str:
    """Name whoever runs this process, for the account of who asked for what: user@machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user number without a name, as in containers
        user = str(os.getuid())
    return f"{user}@{platform.node()}"
