"""What is told of a question's text: where it ends, what it calls, and why it is refused."""

from __future__ import annotations

import pytest

from hpo_service.errors import UsageError
from hpo_service.storage.querying.text import called, one_question


@pytest.mark.parametrize(
    "text, question",
    [
        ("select 1", "select 1"),
        ("  SELECT 1 ; ", "  SELECT 1"),
        ("select ';' -- the end;\n;;", "select ';'"),
        ("with a as (select 1) select * from a", "with a as (select 1) select * from a"),
        ("(select 1) /* a /* comment */ ; */", "(select 1)"),
        ("select $tag$ ; $tag$", "select $tag$ ; $tag$"),
        (r"select E'\'; drop table x'", r"select E'\'; drop table x'"),
        ('values (1, "a;b")', 'values (1, "a;b")'),
    ],
)
def test_a_question_is_its_text_without_what_follows_it(text, question):
    assert one_question(text) == question


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "is empty"),
        (" ; -- nothing", "is empty"),
        ("select 1; select 2", "more than one statement"),
        ("select 1; drop table hpo_study", "more than one statement"),
        ("drop table hpo_study", "only reads, and this one begins with DROP"),
        ("/* select */ delete from hpo_study", "begins with DELETE"),
        ("COPY hpo_study TO '/tmp/x'", "begins with COPY"),
        ("pragma user_version = 3", "begins with PRAGMA"),
    ],
)
def test_what_is_no_question_is_refused_in_one_line(text, reason):
    with pytest.raises(UsageError, match=reason) as refused:
        one_question(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text, names",
    [
        ("select Count(*) from t", {"count"}),
        ('select pg_catalog . "pg_sleep" /* a */ (1)', {"pg_sleep"}),
        ("select 'pg_sleep(1)', $$ lo_unlink(1) $$ -- set_config(1)", set()),
        ('select "a""b"(1), x."C"(2)', {'a"b', "C"}),
        ("select a$b$(1), $b$ f(2) $b$", {"a$b$"}),
    ],
)
def test_calls_are_found_as_postgresql_reads_names(text, names):
    assert called(text) == names


@pytest.mark.parametrize("text", [r'select U&"pg\005fsleep"(1)', r"select u&'x'"])
def test_names_that_are_hidden_are_refused(text):
    with pytest.raises(UsageError, match="U&"):
        called(text)
