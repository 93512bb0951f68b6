"""Migrations from empty make exactly the declared schema, on every kind of database."""

from __future__ import annotations

import io
import re
import sqlite3

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import inspect, text

from alembic import command
from hpo_service.errors import DatabaseUnavailableError, SchemaError
from hpo_service.search.studies import OptunaStudies
from hpo_service.storage import migrations, schema
from hpo_service.storage.database import Database

VIEWS = {
    *("v_studies", "v_stages", "v_trials", "v_params", "v_attempts", "v_curves", "v_facts", "v_workers", "v_events"),
    *("v_leaderboard", "v_transfer", "v_costs"),
}


sqlite_only = pytest.mark.parametrize("dialect", ["sqlite"])
postgres_only = pytest.mark.parametrize("dialect", ["postgresql"])


@pytest.fixture
def database(database_url):
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def upgraded(migrated_url):
    """A copy of what the migrations made of an empty database."""
    database = Database(migrated_url)
    yield database
    database.dispose()


def execute(database, statement):
    with database.transaction():
        return database.connection.execute(text(statement))


def test_there_is_one_head():
    assert len(ScriptDirectory.from_config(_config()).get_heads()) == 1


def test_every_migration_has_a_docstring_and_a_way_back():
    for script in ScriptDirectory.from_config(_config()).walk_revisions():
        assert script.doc
        assert callable(script.module.upgrade)
        assert callable(script.module.downgrade)


def test_migrations_from_empty_make_the_declared_schema(upgraded):
    assert migrations.differences(upgraded) == []
    migrations.check(upgraded)
    with upgraded.transaction():
        inspector = inspect(upgraded.connection)
        tables, views = set(inspector.get_table_names()), set(inspector.get_view_names())
    assert set(schema.metadata.tables) <= tables
    assert views == VIEWS


@sqlite_only  # PostgreSQL does not keep the statements
def test_migrations_make_what_the_declared_tables_would_be(upgraded, tmp_path):
    """Autogenerate overlooks some things (AUTOINCREMENT, cascades); the statements themselves do not."""
    (tmp_path / "declared.db").touch()
    declared = Database(f"sqlite:///{tmp_path / 'declared.db'}")
    with declared.transaction():
        schema.metadata.create_all(declared.connection)
    assert _statements(upgraded) == _statements(declared)


def test_optunas_tables_and_version_are_left_alone(upgraded):
    assert execute(upgraded, "SELECT version_num FROM alembic_version").scalar_one().startswith("v")
    own = execute(upgraded, f"SELECT version_num FROM {migrations.VERSION_TABLE}").scalar_one()
    assert own == migrations.current(upgraded)


def test_an_empty_database_has_no_revision_and_is_told_how_to_get_one(database):
    assert migrations.current(database) is None
    with pytest.raises(SchemaError, match="hpo-service db upgrade"):
        migrations.check(database)


def test_upgrading_twice_changes_nothing(upgraded):
    before = migrations.current(upgraded)
    migrations.upgrade(upgraded, lambda: pytest.fail("the tables are there already"))
    assert migrations.current(upgraded) == before


def test_an_older_database_is_told_to_upgrade_and_can_be(upgraded):
    with upgraded.transaction():
        config = _config()
        config.attributes["database"] = upgraded
        command.downgrade(config, "-1")
    with pytest.raises(SchemaError, match=r"revision 0009, .* 0010.*db upgrade"):
        migrations.check(upgraded)
    migrations.upgrade(upgraded, lambda: OptunaStudies.create_tables(upgraded.url))
    migrations.check(upgraded)


def test_everything_of_ours_can_be_taken_away_again(upgraded):
    with upgraded.transaction():
        config = _config()
        config.attributes["database"] = upgraded
        command.downgrade(config, "base")
        left = set(inspect(upgraded.connection).get_table_names())
    assert not {name for name in left if name.startswith("hpo_")} - {migrations.VERSION_TABLE}
    assert "studies" in left


@pytest.mark.parametrize("act", ["check", "upgrade"])
def test_a_database_of_a_newer_version_is_refused(upgraded, act):
    execute(upgraded, f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'")
    calls = {
        "check": lambda: migrations.check(upgraded),
        "upgrade": lambda: migrations.upgrade(upgraded, lambda: None),
    }
    with pytest.raises(SchemaError, match=r"newer hpo-service \(revision 9999"):
        calls[act]()


def test_tables_changed_by_hand_are_noticed(upgraded):
    execute(upgraded, "ALTER TABLE hpo_worker ADD COLUMN mood VARCHAR(10)")
    with pytest.raises(SchemaError, match=r"changed by hand|mood") as caught:
        migrations.check(upgraded)
    assert "mood" in str(caught.value)
    assert "\n" not in str(caught.value)


@postgres_only  # SQLite cannot change a column
def test_a_column_changed_by_hand_is_noticed(upgraded):
    execute(upgraded, "ALTER TABLE hpo_attempt ALTER COLUMN token TYPE BIGINT")
    with pytest.raises(SchemaError, match=r"hpo_attempt token"):
        migrations.check(upgraded)


@sqlite_only  # PostgreSQL waits for an advisory lock of its own
def test_an_upgrade_that_another_process_never_ends_is_given_up(database, tmp_path, monkeypatch):
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 0.01)
    with (
        FileLock(tmp_path / "study.db.lock"),
        pytest.raises(DatabaseUnavailableError, match=r"study\.db\.lock"),
    ):
        migrations.upgrade(database, lambda: pytest.fail("the lock is held"))
    assert migrations.current(database) is None


def test_other_peoples_tables_are_no_difference(upgraded):
    execute(upgraded, "CREATE TABLE somebody_elses (id INTEGER)")
    migrations.check(upgraded)
    with upgraded.transaction():
        assert "somebody_elses" in inspect(upgraded.connection).get_table_names()


@postgres_only  # SQLite makes views of tables that are missing
def test_a_failed_migration_leaves_no_half_schema(database):
    with pytest.raises(SchemaError):
        migrations.upgrade(database, lambda: None)
    with database.transaction():
        assert inspect(database.connection).get_table_names() == []


def test_migrations_are_found_in_a_checkout_and_in_an_installed_package(tmp_path, monkeypatch):
    assert (migrations.script_folder() / "env.py").is_file()
    package = tmp_path / "hpo_service"
    (package / "_alembic").mkdir(parents=True)
    monkeypatch.setattr("hpo_service.__file__", str(package / "__init__.py"))
    assert migrations.script_folder() == package / "_alembic"


def test_the_alembic_command_works_on_the_database_of_the_environment(upgraded, monkeypatch):
    monkeypatch.setenv("HPO_SERVICE_STORAGE", upgraded.url)
    said = io.StringIO()
    config = Config(migrations.script_folder() / "alembic.ini", stdout=said)
    command.current(config)
    command.check(config)
    assert "0010 (head)" in said.getvalue()


def _config():
    config = Config()
    config.set_main_option("script_location", str(migrations.script_folder()))
    config.set_main_option("path_separator", "os")
    return config


def _statements(database):
    with database.transaction():
        found = database.connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE tbl_name LIKE 'hpo\\_%' ESCAPE '\\' AND sql IS NOT NULL"
        )
        rows = {name: re.sub(r"\s+", " ", sql) for name, sql in found}
    rows.pop(migrations.VERSION_TABLE, None)
    # constraints may come in another order
    return {name: sorted(part.strip(" )(") for part in sql.split(",")) for name, sql in rows.items()}


def test_a_database_of_another_program_is_refused_and_left_as_it_was(database):
    execute(database, "CREATE TABLE studies (name TEXT)")
    with pytest.raises(SchemaError, match="belongs to another program: its table studies has no column study_id"):
        migrations.upgrade(database, lambda: OptunaStudies.create_tables(database.url))
    with database.transaction():
        assert inspect(database.connection).get_table_names() == ["studies"]


@sqlite_only
def test_the_switch_to_a_write_ahead_log_waits_for_a_writer(database, monkeypatch):
    execute(database, "CREATE TABLE notes (text TEXT)")
    writer = sqlite3.connect(str(database.engine.url.database), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            writer.execute("COMMIT")

    monkeypatch.setattr(migrations.time, "sleep", wait)
    migrations.upgrade(database, lambda: OptunaStudies.create_tables(database.url))
    writer.close()
    assert len(waits) == 2
    with database.transaction():
        assert database.connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


@sqlite_only
def test_a_writer_that_never_ends_is_named_in_one_line(database, monkeypatch):
    execute(database, "CREATE TABLE notes (text TEXT)")
    writer = sqlite3.connect(str(database.engine.url.database), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    waits = []
    monkeypatch.setattr(migrations.time, "sleep", waits.append)
    with pytest.raises(DatabaseUnavailableError, match="database is locked"):
        migrations.upgrade(database, lambda: OptunaStudies.create_tables(database.url))
    writer.close()
    assert len(waits) == migrations.SWITCH_ATTEMPTS - 1
    assert all(0 <= wait <= migrations.SWITCH_WAIT_SECONDS for wait in waits)
    assert len(set(waits)) > 1
