"""`hpo-service query`: a question in SQL that only reads, answered as table, CSV, JSON or Parquet."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo_service.cli.options import AsJson, StorageUrl, open_service
from hpo_service.errors import UsageError

if TYPE_CHECKING:
    from hpo_service.service.query import Answer


class AnswerFormat(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def query(
    sql: Annotated[str | None, typer.Argument(metavar="[SQL]", help="One SELECT; see docs/querying.md.")] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Read the query from a file.")] = None,
    kind: Annotated[
        AnswerFormat | None,
        typer.Option("--format", help="By default a table, or what the ending of --output says."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write to a file.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=0, help="Rows at most, 0 is all; by default 200 of a table.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds to wait for the next rows.")] = 60.0,
    storage: StorageUrl = None,
    as_json: AsJson = False,
) -> None:
    """Ask the database a question in SQL; nothing can be changed.

    The views are v_studies, v_stages, v_trials, v_params, v_attempts, v_curves, v_facts, v_workers, v_events,
    v_leaderboard, v_transfer and v_costs.
    """
    from hpo_service.presentation.exports.answers import TABLE_ROWS, limited

    shape = AnswerFormat.JSON if as_json else kind or _format_of(output)
    if shape is AnswerFormat.PARQUET and output is None:
        raise UsageError("Parquet is a file: name it with --output FILE")
    most = limit if limit is not None else TABLE_ROWS if shape is AnswerFormat.TABLE else 0
    with open_service(storage).query.ask(_question(sql, file), timeout) as answer:
        _write(limited(answer, most or None, _say_cut), shape, output)


def _question(sql: str | None, file: Path | None) -> str:
    if (sql is None) is (file is None):
        raise UsageError("give one query: as an argument, or with --file FILE (- is standard input)")
    if file is None:
        return str(sql)
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}") from None


def _format_of(output: Path | None) -> AnswerFormat:
    if output is None:
        return AnswerFormat.TABLE
    endings = {f".{kind}": kind for kind in AnswerFormat}
    if output.suffix.lower() not in endings:
        known = ", ".join(AnswerFormat)
        raise UsageError(f"--output {output}: its ending names no format; name one with --format ({known})")
    return endings[output.suffix.lower()]


def _say_cut(limit: int) -> None:
    typer.echo(f"there are more than these {limit} rows: --limit 0 shows all, --format csv writes all", err=True)


def _write(answer: Answer, shape: AnswerFormat, output: Path | None) -> None:
    from hpo_service.presentation.exports.answers import TEXTS, write_parquet

    if output is None:
        TEXTS[shape](answer, sys.stdout)
        return
    # an answer that breaks off leaves no half file under the name that was asked for
    part = output.with_name(f"{output.name}.part")
    try:
        if shape is AnswerFormat.PARQUET:
            write_parquet(answer, part)
        else:
            with part.open("w", encoding="utf-8", newline="") as out:
                TEXTS[shape](answer, out)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
