"""Storage URLs: what is accepted, what is refused, and what may be shown."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import QueuePool, make_url

from hpo_service.errors import SchemaError, UsageError
from hpo_service.storage.database import Database


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_gets_the_same_driver(scheme):
    database = Database(f"{scheme}://user:pw@host:5432/name")
    assert database.url == "postgresql+psycopg://user:pw@host:5432/name"
    assert database.dialect == "postgresql"


def test_a_password_is_never_shown():
    database = Database("postgresql://user:secret@host/name?password=secret&sslpassword=secret&sslmode=require")
    assert "secret" not in database.safe_url
    assert "host/name" in database.safe_url
    assert "sslmode=require" in database.safe_url
    assert database.url.count("secret") == 3


def test_a_url_without_a_password_is_shown_as_it_is():
    assert Database("sqlite:////tmp/x.db").safe_url == "sqlite:////tmp/x.db"


@pytest.mark.parametrize(
    "url, said",
    [
        ("mysql://host/name", "'mysql'"),
        ("postgresql+asyncpg://host/name", "'postgresql\\+asyncpg'"),
        ("sqlite+aiosqlite:///x.db", "'sqlite\\+aiosqlite'"),
        ("study.db", "cannot be read"),
        ("", "cannot be read"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_other_urls_are_refused_with_a_remedy(url, said):
    with pytest.raises(UsageError, match=rf"(?s){said}.*sqlite:///FILE") as caught:
        Database(url)
    assert "\n" not in str(caught.value)


def test_a_refused_url_does_not_give_its_password_away():
    with pytest.raises(UsageError) as caught:
        Database("mysql://user:secret@host/name")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("password", ["p@ss", "p/ss", "@", "a@b/c", "p:a@s#s", "p%40ss", "pass word"])
def test_a_password_works_and_is_hidden_with_characters_that_should_have_been_quoted(password):
    database = Database(f"postgresql://user:{password}@host:5432/name?sslmode=require")
    found = make_url(database.url)
    assert (found.username, found.password, found.host, found.database) == (
        "user",
        password.replace("%40", "@"),
        "host",
        "name",
    )
    assert database.safe_url == "postgresql+psycopg://user:***@host:5432/name?sslmode=require"


@given(
    password=st.text(st.sampled_from("@/?:#%&=+;[]{}$ 'é") | st.characters(codec="ascii", categories=["L", "N"])),
    name=st.sampled_from(["password", "sslpassword", "PASSWORD"]),
)
def test_no_part_of_any_password_is_shown(password, name):
    secret = f"5ecret{password}5ecret"
    for url in (
        f"postgresql://user:{secret}@host/name",
        f"postgresql://user:{secret}@host/name?sslmode=require",
        f"postgresql://user@host/name?{name}={quote_plus(secret)}&sslmode=require",
        f"postgresql://user:{quote(secret, safe='')}@host/name",
    ):
        try:
            shown = Database(url).safe_url
        except UsageError as error:
            shown = str(error)
        assert "5ecret" not in shown


def test_a_name_that_was_mistyped_makes_no_database(tmp_path):
    file = tmp_path / "folder" / "x.db"
    database = Database(f"sqlite:///{file}")
    assert database.missing
    with pytest.raises(SchemaError, match=r"there is no database at .*x\.db: run `hpo"), database.transaction():
        pass
    assert not file.parent.exists()
    file.parent.mkdir()
    file.touch()
    with database.transaction():
        assert not database.missing
    database.dispose()


def test_closing_an_idle_connection_of_a_pool_that_has_none_opens_none(tmp_path):
    database = Database(f"postgresql://user@/name?host={tmp_path}")
    database.close_idle()
    assert isinstance(database.engine.pool, QueuePool)
    assert database.engine.pool.checkedin() == 0
