"""The database's own clock, so that leases do not depend on the clocks of the machines that hold them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Double, case
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class Now(FunctionElement[float]):
    """Seconds since 1970 (UTC) at the moment of the statement, by the database's clock."""

    name = "hpo_now"
    type = Double()
    inherit_cache = True


@compiles(Now, "postgresql")
def _postgresql(_element: Now, _compiler: SQLCompiler, **_options: Any) -> str:
    # not now(): that stands still for the length of a transaction
    return "extract(epoch from clock_timestamp())::double precision"


@compiles(Now, "sqlite")
def _sqlite(_element: Now, _compiler: SQLCompiler, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


def earlier(first: ColumnElement[Any], second: ColumnElement[Any]) -> ColumnElement[float]:
    """Return the smaller of two times; `second` where `first` is null."""
    return case((first < second, first), else_=second)
