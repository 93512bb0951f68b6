"""Bringing a database's schema to this version, once, however many processes start at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from sqlalchemy import inspect, select, text
from sqlalchemy.sql import column, table

import hpo_service
from hpo_service.errors import DatabaseUnavailableError, SchemaError
from hpo_service.storage import schema
from hpo_service.storage.database import Database

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

VERSION_TABLE = "hpo_alembic_version"
"""Where our revision is noted; Optuna's own migrations use `alembic_version` in the same database."""
LOCK_KEY = 0x68706F5F73657276
"""The advisory lock under which PostgreSQL schemas are changed ("hpo_serv" in ASCII)."""
LOCK_SECONDS = 600
"""How long a process waits for another one that is changing the schema."""
OPTUNA_COLUMNS: dict[str, str] = {"studies": "study_id", "trials": "trial_id", "version_info": "version_info_id"}
"""Tables of Optuna with common names, and a column that tells them from another program's."""
SWITCH_ATTEMPTS = 30
"""How often the switch to a write-ahead log is tried, for about half a minute in all."""
SWITCH_WAIT_SECONDS = 2.0
"""The longest wait between two of these attempts; each is drawn at random below a limit that doubles up to this."""


def upgrade(database: Database, create_optuna_tables: Callable[[], object]) -> None:
    """Create or upgrade the schema; does nothing, quickly, where it is up to date.

    Args:
        database: no transaction may be open.
        create_optuna_tables: creates Optuna's tables in the same database if they are missing, on connections of
            its own; our views read them, so they come first. Called under the same lock.

    Raises:
        SchemaError: the database was upgraded by a newer version, or another program's tables stand where ours go;
            nothing was written.
        DatabaseUnavailableError: the database is away, or another process held the lock for too long.
    """
    scripts = _scripts()
    if database.dialect == "sqlite":
        with _file_lock(database):
            if not _is_current(database, scripts):
                _refuse_foreign(database)
                _use_write_ahead_log(database)
                create_optuna_tables()
                with database.transaction():
                    _run(database)
    elif not _is_current(database, scripts):
        with database.transaction():
            _take_advisory_lock(database)
            if not _is_current(database, scripts):
                _refuse_foreign(database)
                create_optuna_tables()
                _run(database)


def current(database: Database) -> str | None:
    """Return the database's revision, or None where it has no schema yet, or is not there at all."""
    if database.missing:
        return None
    with database.transaction(read_only=True):
        if not inspect(database.connection).has_table(VERSION_TABLE):
            return None
        return database.connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))


def check(database: Database) -> None:
    """Make sure that the database has exactly this version's schema.

    Raises:
        SchemaError: it is missing, older, newer, or was changed by hand; the message says which and what to do.
    """
    require_current(database)
    found = differences(database)
    if found:
        raise SchemaError(
            f"the tables in {database.safe_url} differ from revision {current(database)} ({'; '.join(found)}): "
            "they were changed by hand; restore a backup, or undo the change"
        )


def require_current(database: Database) -> None:
    """Make sure that the database is at this version's revision, without looking at its tables.

    Raises:
        SchemaError: it is empty, older or newer; the message says what to do.
    """
    scripts = _scripts()
    if not _is_current(database, scripts):
        raise SchemaError(
            f"the database {database.safe_url} is at revision {current(database) or 'none'}, this version needs "
            f"{scripts.get_current_head()}: run `hpo-service db upgrade`"
        )


def differences(database: Database) -> list[str]:
    """Return how our tables in the database differ from the declared ones, one line each; empty if they do not."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.transaction(read_only=True):
        context = MigrationContext.configure(database.connection, opts=context_options())
        return [_described(difference) for difference in compare_metadata(context, schema.metadata)]


def context_options() -> dict[str, Any]:
    """Return what Alembic must know to see our tables and nothing else; `alembic/env.py` uses it too."""
    return {
        "target_metadata": schema.metadata,
        "version_table": VERSION_TABLE,
        "include_name": _is_ours,
        "compare_type": True,
    }


def script_folder() -> Path:
    """Return the folder of the migrations: inside an installed package, or at the top of a checkout."""
    package = Path(hpo_service.__file__).parent
    installed = package / "_alembic"
    return installed if installed.is_dir() else package.parent / "alembic"


def _is_ours(name: str | None, kind: str, parents: Any) -> bool:
    owner = name if kind == "table" else parents.get("table_name")
    return owner is None or (owner.startswith(schema.PREFIX) and owner != VERSION_TABLE)


def _is_current(database: Database, scripts: ScriptDirectory) -> bool:
    revision = current(database)
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise SchemaError(
            f"the database {database.safe_url} was upgraded by a newer hpo-service (revision {revision} is not "
            f"known to {hpo_service.__version__}): install that version here too"
        )
    return revision == scripts.get_current_head()


def _refuse_foreign(database: Database) -> None:
    with database.transaction(read_only=True):
        inspector = inspect(database.connection)
        for name, theirs in OPTUNA_COLUMNS.items():
            if inspector.has_table(name) and theirs not in {found["name"] for found in inspector.get_columns(name)}:
                raise SchemaError(
                    f"the database {database.safe_url} belongs to another program: its table {name} has no column "
                    f"{theirs}; name an empty database (--storage), nothing was changed"
                )


def _run(database: Database) -> None:
    from alembic import command

    config = _config()
    config.attributes["database"] = database
    command.upgrade(config, "head")


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    # a percent sign would be read as interpolation
    config.set_main_option("script_location", str(script_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config())


def _described(difference: Any) -> str:
    if isinstance(difference, list):
        return "; ".join(_described(part) for part in difference)
    return " ".join(str(part) for part in difference if isinstance(part, str) or hasattr(part, "name"))


@contextmanager
def _file_lock(database: Database) -> Iterator[None]:
    file = Path(str(database.engine.url.database))
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{file}.lock", timeout=LOCK_SECONDS):
            if not str(file).startswith("file:"):
                file.touch()  # nobody else makes it: a name that was mistyped is no new database
            yield
    except Timeout as error:
        raise DatabaseUnavailableError(
            f"another process has been upgrading {database.safe_url} for {LOCK_SECONDS} seconds: "
            f"see what holds {file}.lock, then try again"
        ) from error


def _use_write_ahead_log(database: Database) -> None:
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    # kept in the file; cannot be changed inside a transaction
    def switch() -> None:
        with database.translated_errors():
            connection = database.engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()

    # SQLite does not wait for its busy timeout where another connection has begun to write: it refuses at once
    until_free = Retrying(
        retry=retry_if_exception_type(DatabaseUnavailableError),
        wait=wait_random_exponential(multiplier=0.2, max=SWITCH_WAIT_SECONDS),
        stop=stop_after_attempt(SWITCH_ATTEMPTS),
        sleep=time.sleep,
        reraise=True,
    )
    until_free(switch)


def _take_advisory_lock(database: Database) -> None:
    # others may be at work for a while, and Optuna's tables are made on another connection while this one idles
    database.connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
    database.connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    database.connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
