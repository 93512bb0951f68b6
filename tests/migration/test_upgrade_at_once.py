"""Sixteen processes start at once on an empty database: all of them find it ready, none crashes."""

from __future__ import annotations

import multiprocessing

from hpo_service.search.studies import OptunaStudies
from hpo_service.storage import migrations
from hpo_service.storage.database import Database

PROCESSES = 16
PRELOADED = [
    "alembic.command",
    "alembic.autogenerate",
    "hpo_service.search.enlisted",
    "hpo_service.storage.migrations",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
]


def upgrade_and_use(url: str, start, results) -> None:
    start.wait()
    try:
        database = Database(url)
        migrations.upgrade(database, lambda: OptunaStudies.create_tables(database.url))
        results.put(migrations.current(database))
    except BaseException as error:
        results.put(f"{type(error).__name__}: {error}")


def test_sixteen_processes_upgrade_an_empty_database_at_once(database_url):
    context = multiprocessing.get_context("forkserver")
    # what takes long to import is imported once, so that the processes really meet
    context.set_forkserver_preload(PRELOADED)
    start, results = context.Event(), context.Queue()
    processes = [context.Process(target=upgrade_and_use, args=(database_url, start, results)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    start.set()
    said = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    database = Database(database_url)
    assert said == [migrations.current(database)] * PROCESSES
    migrations.check(database)
    database.dispose()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
