"""The contract of transactions: whole or not at all, one connection, and one kind of outage."""

from __future__ import annotations

import multiprocessing
import threading
import time
from contextlib import ExitStack

import pytest
from sqlalchemy import text

from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import ConflictError, DatabaseFaultError, DatabaseUnavailableError, SchemaError
from hpo_service.storage.database import Database

postgres_only = pytest.mark.parametrize("dialect", ["postgresql"])
sqlite_only = pytest.mark.parametrize("dialect", ["sqlite"])


def connections(database: Database) -> int:
    with database.transaction():
        counted = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hpo-service'"
        return database.connection.execute(text(f"{counted} AND datname = current_database()")).scalar_one()


class TestWholeOrNotAtAll:
    def test_everything_is_committed_together(self, world, another):
        with world.db.transaction():
            world.studies.set_state(world.study.id, StudyState.PAUSED, "first")
            world.studies.close_stage(world.stage.id, "second")
        peer = another()
        with peer.db.transaction():
            study, stage = peer.studies.of_stage(world.stage.id)
        assert (study.reason, stage.reason) == ("first", "second")

    def test_an_error_rolls_everything_back_and_is_passed_on(self, world):
        def failing() -> None:
            with world.db.transaction():
                world.studies.set_state(world.study.id, StudyState.PAUSED, "never")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            failing()
        with world.db.transaction():
            assert world.studies.get(world.study.name) == world.study

    def test_a_nested_transaction_joins_the_outer_one(self, world):
        def failing() -> None:
            with world.db.transaction():
                with world.db.transaction():
                    world.studies.set_state(world.study.id, StudyState.PAUSED, "never")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            failing()
        with world.db.transaction():
            assert world.studies.get(world.study.name) == world.study

    def test_half_a_nested_transaction_is_never_committed(self, world, study_spec):
        def failing() -> None:
            with world.db.transaction():

                def half() -> None:
                    with world.db.transaction():
                        world.studies.set_state(world.study.id, StudyState.PAUSED, "half")
                        world.studies.create(study_spec(world.study.name))

                with pytest.raises(ConflictError):
                    half()
                world.studies.close_stage(world.stage.id, "never")

        with pytest.raises(RuntimeError, match="swallowed"):
            failing()
        with world.db.transaction():
            assert world.studies.of_stage(world.stage.id) == (world.study, world.stage)

    def test_after_a_failure_the_next_transaction_works(self, world):
        with pytest.raises(RuntimeError), world.db.transaction(), world.db.transaction():
            raise RuntimeError
        with world.db.transaction():
            assert world.studies.find(world.study.name) is not None

    def test_caches_hear_of_every_transaction_that_failed(self, world):
        heard = []
        world.db.on_rollback(lambda: heard.append(1))
        with world.db.transaction(), world.db.transaction():
            pass
        assert heard == []
        with pytest.raises(KeyboardInterrupt), world.db.transaction():
            raise KeyboardInterrupt
        assert heard == [1]

    def test_a_store_used_outside_a_transaction_says_what_is_missing(self, world):
        with pytest.raises(RuntimeError, match=r"database.transaction\(\)"):
            world.studies.list()

    def test_threads_have_transactions_of_their_own(self, url):
        database = Database(url, connections=2)
        seen = []
        with database.transaction(read_only=True):
            thread = threading.Thread(target=lambda: seen.append(database.current))
            thread.start()
            thread.join()
            assert database.current is not None
        assert seen == [None]
        database.dispose()

    def test_a_forked_process_uses_connections_of_its_own(self, world):
        with world.db.transaction():
            parents = world.db.connection.connection.dbapi_connection
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_pause, args=(world, parents))
        child.start()
        child.join()
        assert child.exitcode == 0
        with world.db.transaction():
            assert world.studies.get(world.study.name).reason == "by the child"


def _pause(world, parents) -> None:
    with world.db.transaction():
        assert world.db.connection.connection.dbapi_connection is not parents
        world.studies.set_state(world.study.id, StudyState.PAUSED, "by the child")


class TestTheClock:
    def test_time_is_the_databases_own_in_seconds(self, world):
        with world.db.transaction():
            assert world.db.clock() == pytest.approx(time.time(), abs=5)

    def test_time_goes_on_inside_a_transaction(self, world):
        with world.db.transaction():
            first = world.db.clock()
            while world.db.clock() == first:
                pass
            assert world.db.clock() > first


class TestSessions:
    def test_a_session_inside_a_transaction_is_rolled_back_with_it(self, world):
        def failing() -> None:
            with world.db.transaction():
                session = world.db.session_source()
                session.execute(text("UPDATE hpo_study SET reason = 'never'"))
                session.commit()
                session.close()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            failing()
        with world.db.transaction():
            assert world.studies.get(world.study.name).reason == world.study.reason

    def test_a_session_that_fails_undoes_only_its_own_part(self, world):
        with world.db.transaction():
            world.studies.set_state(world.study.id, StudyState.PAUSED, "ours")
            session = world.db.session_source()
            session.execute(text("UPDATE hpo_study SET reason = 'theirs'"))
            session.rollback()
            session.close()
        with world.db.transaction():
            assert world.studies.get(world.study.name).reason == "ours"

    def test_a_session_outside_a_transaction_commits_by_itself(self, world):
        session = world.db.session_source()
        session.execute(text("UPDATE hpo_study SET reason = 'alone'"))
        session.commit()
        session.close()
        world.db.session_source.remove()
        with world.db.transaction():
            assert world.studies.get(world.study.name).reason == "alone"


class TestSqlite:
    @sqlite_only
    def test_the_file_is_in_wal_mode_with_foreign_keys(self, world):
        with world.db.transaction():
            ask = world.db.connection.exec_driver_sql
            assert ask("PRAGMA journal_mode").scalar() == "wal"
            assert ask("PRAGMA foreign_keys").scalar() == 1
            assert ask("PRAGMA synchronous").scalar() == 1
            assert ask("PRAGMA busy_timeout").scalar() == 60_000

    @sqlite_only
    def test_a_writer_that_waits_too_long_finds_the_database_unavailable(self, world):
        impatient = Database(f"{world.db.url}?timeout=0.01")
        with world.db.transaction():
            with pytest.raises(DatabaseUnavailableError, match="locked"), impatient.transaction():
                pass
            with impatient.transaction(read_only=True):
                pass  # readers pass writers
        with impatient.transaction():
            pass
        impatient.dispose()

    @sqlite_only
    def test_a_file_that_is_no_database_will_be_none_however_long_one_waits(self, url, tmp_path):
        file = tmp_path / "text.db"
        file.write_text("this is no database, and long enough to be looked at " * 10)
        with (
            pytest.raises(DatabaseFaultError, match="not a database"),
            Database(f"sqlite:///{file}").transaction(),
        ):
            pass


class TestPostgresql:
    @postgres_only
    def test_a_lost_connection_is_one_kind_of_error_and_the_next_call_works(self, world, another):
        killer = another()

        def failing() -> None:
            with world.db.transaction():
                pid = world.db.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
                with killer.db.transaction():
                    killer.db.connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
                world.studies.list()

        with pytest.raises(DatabaseUnavailableError, match="not available"):
            failing()
        with world.db.transaction():
            assert world.studies.get(world.study.name) == world.study

    @postgres_only
    def test_a_connection_that_broke_while_idle_is_replaced_unnoticed(self, world, another, monkeypatch):
        monkeypatch.setattr("hpo_service.storage.database.PING_AFTER_SECONDS", 0.0)
        with world.db.transaction():
            pid = world.db.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        killer = another()
        with killer.db.transaction():
            killer.db.connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
        with world.db.transaction():
            assert world.studies.get(world.study.name) == world.study

    @postgres_only
    def test_a_lock_that_is_never_given_up_ends_in_the_same_error(self, world, another):
        peer = another()
        with world.db.transaction():
            world.studies.lock(world.study.id)

            def failing() -> None:
                with peer.db.transaction():
                    peer.db.connection.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")
                    peer.studies.lock(world.study.id)

            with pytest.raises(DatabaseUnavailableError, match="lock timeout"):
                failing()

    @postgres_only
    def test_a_holder_that_sleeps_inside_a_transaction_is_thrown_out(self, world):
        def failing() -> None:
            with world.db.transaction():
                world.db.connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '10ms'")
                # what the server does to a frozen process; the driver hears of it with its next statement
                raw = world.db.connection.connection.dbapi_connection
                assert raw is not None
                _wait_until_readable(raw.fileno())
                world.studies.list()

        with pytest.raises(DatabaseUnavailableError):
            failing()

    @postgres_only
    def test_every_connection_has_its_limits_set(self, world):
        with world.db.transaction():
            ask = world.db.connection.exec_driver_sql
            assert ask("SHOW idle_in_transaction_session_timeout").scalar() == "1min"
            assert ask("SHOW lock_timeout").scalar() == "30s"
            assert ask("SHOW transaction_isolation").scalar() == "read committed"
            assert ask("SHOW application_name").scalar() == "hpo-service"

    @postgres_only
    def test_the_urls_own_options_win(self, url):
        database = Database(f"{url}&options=-c%20lock_timeout%3D7s&application_name=mine")
        with database.transaction():
            assert database.connection.exec_driver_sql("SHOW lock_timeout").scalar() == "7s"
            assert database.connection.exec_driver_sql("SHOW application_name").scalar() == "mine"
        database.dispose()

    @postgres_only
    def test_a_process_holds_one_connection_however_many_threads_it_has(self, world, another):
        def work() -> None:
            for _ in range(3):
                with world.db.transaction():
                    session = world.db.session_source()
                    session.execute(text("SELECT 1"))
                    session.close()
                outside = world.db.session_source()
                outside.execute(text("SELECT 1"))
                outside.close()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        observer = another()
        seen = [connections(observer.db) for _ in range(5)]
        for thread in threads:
            thread.join()
        assert max(seen) <= 2  # the observer's own is one of them

    @postgres_only
    def test_an_idle_process_can_give_its_connection_back(self, world, another):
        observer = another()
        assert connections(observer.db) == 2
        world.db.close_idle()
        while connections(observer.db) > 1:
            pass  # the server needs a moment to notice
        world.db.close_idle()
        with world.db.transaction():
            assert connections(observer.db) == 2
            world.db.close_idle()
            assert world.studies.get(world.study.name) == world.study

    @postgres_only
    def test_64_processes_fit_into_a_server_of_100_connections(self, url, connect):
        with ExitStack() as everyone:
            databases = [connect() for _ in range(64)]
            for database in databases:
                everyone.enter_context(database.transaction())
                database.clock()
            database = databases[0]
            assert database.connection.exec_driver_sql("SHOW max_connections").scalar() == "100"
            assert connections(database) == 64


class TestOutages:
    def test_a_server_that_is_not_there_is_unavailable(self, tmp_path):
        away = Database(f"postgresql://someone:secret@/name?host={tmp_path}")
        with pytest.raises(DatabaseUnavailableError, match="not available") as caught, away.transaction():
            pass
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_wrapped_outage_is_still_an_outage(self, world):
        def failing() -> None:
            with world.db.translated_errors():
                try:
                    raise _outage()
                except Exception as error:
                    raise ValueError("a library's own words") from error

        with pytest.raises(DatabaseUnavailableError):
            failing()

    def test_missing_tables_are_a_question_of_the_schema(self, database_url):
        empty = Database(database_url)
        with pytest.raises(SchemaError, match="db upgrade"), empty.transaction():
            empty.connection.exec_driver_sql("SELECT name FROM hpo_study")
        empty.dispose()


def _outage() -> Exception:
    from sqlalchemy.exc import OperationalError

    return OperationalError("SELECT 1", {}, OSError("the server closed the connection"))


def _wait_until_readable(descriptor: int) -> None:
    import select

    readable, _, _ = select.select([descriptor], [], [], 30)
    assert readable
