"""Storage URLs: what is accepted, what is refused, and what may be shown."""

from __future__ import annotations

import pytest
from sqlalchemy import QueuePool

from hpo_service.errors import UsageError
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


def test_nothing_is_opened_before_it_is_needed(tmp_path):
    file = tmp_path / "folder" / "x.db"
    database = Database(f"sqlite:///{file}")
    assert not file.parent.exists()
    with database.transaction():
        assert file.exists()
    database.dispose()


def test_closing_an_idle_connection_of_a_pool_that_has_none_opens_none(tmp_path):
    database = Database(f"postgresql://user@/name?host={tmp_path}")
    database.close_idle()
    assert isinstance(database.engine.pool, QueuePool)
    assert database.engine.pool.checkedin() == 0
