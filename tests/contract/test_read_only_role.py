"""The role for those who only ask: it reads the views, and neither the tables nor anything that changes them."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from hpo_service.errors import UsageError
from hpo_service.service.query import Query
from hpo_service.storage.database import Database

SCRIPT = (Path(__file__).parents[2] / "deploy" / "postgres" / "read_only_role.sql").read_text()
VIEWS = ("studies", "stages", "trials", "params", "attempts", "curves", "facts", "workers", "events")
MORE = ("leaderboard", "transfer", "costs")

pytestmark = pytest.mark.parametrize("dialect", ["postgresql"])


@pytest.fixture
def reader(world, url):
    """URL of somebody who was given the role; roles belong to the server, so it goes after the test."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    name = f"alice_{make_url(url).database}"[:60]
    with psycopg.connect(plain, autocommit=True) as owner:
        for _ in range(2):  # it may be run again
            owner.execute(SCRIPT)
        owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret' IN ROLE hpo_reader")
        yield make_url(url).set(username=name, password="secret").render_as_string(hide_password=False)
        owner.execute(f"DROP ROLE {name}")
        owner.execute("DROP OWNED BY hpo_reader")
        owner.execute("DROP ROLE hpo_reader")


def test_it_reads_every_view(world, reader):
    world.plan(2)
    database = Database(reader)
    for view in (*VIEWS, *MORE):
        with Query(database).ask(f"SELECT count(*) FROM v_{view}") as answer:
            assert list(answer.rows), view
    with Query(database).ask("SELECT count(*) FROM v_trials") as answer:
        assert list(answer.rows) == [(2,)]
    database.dispose()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM hpo_study",
        "INSERT INTO hpo_worker SELECT * FROM hpo_worker",
        "SELECT * FROM hpo_study",
        "SELECT * FROM hpo_event",
        "SELECT * FROM trials",
        "DROP VIEW v_trials",
        "CREATE TABLE hpo_mine (id integer)",
        "SELECT nextval('hpo_study_id_seq')",
        "COPY v_trials TO '/tmp/x'",
        "DELETE FROM v_workers",
    ],
)
def test_it_changes_nothing_and_reads_no_table(world, reader, sql):
    plain = make_url(reader).set(drivername="postgresql").render_as_string(hide_password=False)
    # a view of several tables refuses writes whoever asks
    refusals = (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)
    with psycopg.connect(plain, autocommit=True) as connection, pytest.raises(refusals):
        connection.execute(sql)


def test_a_table_is_refused_in_one_line(world, reader):
    database = Database(reader)
    with (
        pytest.raises(UsageError, match="permission denied for table hpo_study"),
        Query(database).ask("SELECT * FROM hpo_study"),
    ):
        pass
    database.dispose()
