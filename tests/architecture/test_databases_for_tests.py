"""The fixtures that hand out databases: really empty, really separate, really both kinds."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, inspect, text


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_an_empty_database(database_url: str, turn: int) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == []
        connection.execute(text(f"CREATE TABLE left_by_turn_{turn} (id INTEGER)"))
    engine.dispose()


def test_the_postgresql_url_names_the_driver(postgres_database: str) -> None:
    assert postgres_database.startswith("postgresql+psycopg://")
