"""The contract of questions, on every kind of database: answered alike, and nothing can be changed by one."""

from __future__ import annotations

import pytest

from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import DatabaseUnavailableError, UsageError
from hpo_service.service.query import Query
from hpo_service.storage.database import Database

sqlite_only = pytest.mark.parametrize("dialect", ["sqlite"])
postgres_only = pytest.mark.parametrize("dialect", ["postgresql"])


@pytest.fixture
def ask(world):
    def ask(sql: str, seconds: float = 30.0) -> tuple[list[str], list[tuple[object, ...]]]:
        with Query(world.db).ask(sql, seconds) as answer:
            return answer.columns, list(answer.rows)

    return ask


def test_a_question_is_answered_with_names_and_plain_values(world, ask):
    world.admit()
    columns, rows = ask("SELECT stage, number, parameters, learning_rate, created_at, 1 AS stage FROM v_trials;")
    assert columns == ["stage", "number", "parameters", "learning_rate", "created_at", "stage_2"]
    ((stage, number, parameters, rate, created, one),) = rows
    assert (stage, number, parameters, rate, one) == ("search", None, '{"learning_rate": 0.0001}', 1e-4, 1)
    assert len(created) == len("2026-01-31 09:30:00.000")


def test_sums_and_means_are_plain_numbers(world, ask):
    world.plan(3)
    _, rows = ask("SELECT sum(ordinal), avg(ordinal), count(*), max(trials) FROM v_trials, v_studies")
    assert rows == [(3, 1.0, 3, 3)]
    assert [type(value) for value in rows[0]] in ([int, float, int, int], [int, int, int, int])


def test_a_percent_sign_or_a_colon_is_only_text(ask):
    assert ask("SELECT '100%' AS a, ':b %s' AS b WHERE 'mine' LIKE 'm%'") == (["a", "b"], [("100%", ":b %s")])


def test_rows_come_as_they_are_asked_for(world, ask):
    world.plan(5)
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i FROM n"
    with Query(world.db).ask(many) as answer:
        assert [next(answer.rows) for _ in range(3)] == [(1,), (2,), (3,)]
    assert ask("SELECT count(*) FROM v_trials")[1] == [(5,)]


WRITES = [
    "DELETE FROM hpo_study",
    "WITH gone AS (DELETE FROM hpo_study RETURNING id) SELECT * FROM gone",
    "WITH x AS (SELECT 1) INSERT INTO hpo_worker SELECT 'x', 'x', 1, 'x', 'x', 'x', 'x', 1, 1 FROM x",
    "SELECT 1; DELETE FROM hpo_study",
    "SELECT 1 /* ; */ ; DROP TABLE hpo_study",
    "SELECT 1;--\nUPDATE hpo_study SET name = 'x'",
    "DROP VIEW v_trials",
    "CREATE TABLE mine AS SELECT * FROM hpo_study",
    "SELECT * INTO mine FROM hpo_study",
    "BEGIN",
    "COMMIT",
    "EXPLAIN ANALYZE DELETE FROM hpo_study",
    "VACUUM",
    "",
    ";;",
    "-- nothing",
]
SQLITE_TRICKS = [
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "ATTACH DATABASE '/tmp/other.db' AS other",
    "SELECT load_extension('/tmp/x.so')",
    "SELECT * FROM pragma_table_info('hpo_study')",
    "SELECT * FROM pragma_query_only(0)",
    "SELECT fts3_tokenizer('simple')",
    "SELECT length(zeroblob(1000000000))",
    "REPLACE INTO hpo_study (id) VALUES (1)",
]
POSTGRES_TRICKS = [
    "COPY hpo_study TO '/tmp/x'",
    "COPY (SELECT 1) TO PROGRAM 'id'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_catalog.pg_ls_dir('.')",
    "SELECT \"pg_read_file\" /* here */ ('/etc/passwd')",
    r"SELECT U&'pg\005fread_file'",
    r'SELECT U&"pg\005fread_file"(1)',
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT set_config('statement_timeout', '0', false)",
    "SELECT query_to_xml('DELETE FROM hpo_study', true, true, '')",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_export(1, '/tmp/x')",
    "SELECT pg_notify('a', 'b')",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_advisory_lock(1)",
    "SELECT nextval('hpo_study_id_seq')",
    "SELECT setval('hpo_study_id_seq', 1)",
    "SELECT pg_sleep(100)",
    "SELECT * FROM pg_stat_file('base')",
    "SELECT * FROM hpo_study FOR UPDATE",
    "SET TRANSACTION READ WRITE",
    "DO $$ BEGIN DELETE FROM hpo_study; END $$",
    "CALL x()",
    "LISTEN a",
    "SELECT 1 UNION SELECT count(*) FROM hpo_study; SELECT $$;$$",
]


def refused(world, ask, sql):
    world.plan(1)
    with pytest.raises(UsageError) as error:
        ask(sql)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    assert ask("SELECT count(*) FROM hpo_trial t JOIN v_studies s ON s.study_id = t.study_id")[1] == [(1,)]


@pytest.mark.parametrize("sql", WRITES)
def test_what_would_change_something_is_refused_and_changes_nothing(world, ask, sql):
    refused(world, ask, sql)


@sqlite_only
@pytest.mark.parametrize("sql", SQLITE_TRICKS)
def test_tricks_of_sqlite_are_refused(world, ask, sql):
    refused(world, ask, sql)


@postgres_only
@pytest.mark.parametrize("sql", POSTGRES_TRICKS)
def test_tricks_of_postgresql_are_refused(world, ask, sql):
    refused(world, ask, sql)


@pytest.mark.parametrize(
    "sql", ["SELECT nothing FROM v_trials", "SELECT * FROM v_nothing", "SELECT FROM WHERE", "SELEC"]
)
def test_a_wrong_question_is_one_line(world, ask, sql):
    refused(world, ask, sql)


def test_a_question_that_never_ends_is_ended(ask):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with pytest.raises(UsageError, match=r"takes too long: .*--timeout"):
        ask(endless, seconds=0.2)


@postgres_only
def test_functions_that_only_change_their_value_are_allowed(ask):
    assert ask("SELECT clock_timestamp() > timestamptz '2000-01-01', random() < 2")[1] == [(True, True)]


@postgres_only
def test_nothing_of_a_question_stays_with_the_connection_of_others(world, ask):
    ask("SELECT 1")
    with world.db.transaction():
        assert world.db.connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "off"
        assert world.db.connection.exec_driver_sql("SHOW statement_timeout").scalar() == "0"


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    file = tmp_path / "none.db"
    with (
        pytest.raises(DatabaseUnavailableError, match="does not exist"),
        Query(Database(f"sqlite:///{file}")).ask("SELECT 1"),
    ):
        pass
    assert not file.exists()


@sqlite_only
def test_a_writer_at_work_does_not_keep_questions_waiting(world, ask):
    with world.db.transaction():
        world.studies.set_state(world.study.id, StudyState.PAUSED, "now")
        assert ask("SELECT state FROM v_studies")[1] == [("active",)]
