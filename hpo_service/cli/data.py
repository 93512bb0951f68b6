"""`hpo-service data`: what the rows of a study are like, before anything is trained on them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from subprocess import PIPE
from typing import TYPE_CHECKING

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson
from hpo_service.cli.study import StudyPath
from hpo_service.domain.study.data_report import DataReport, PartReport
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import ChildError, DataError, UsageError
from hpo_service.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="Look at the data of a study file.", no_args_is_help=True, rich_markup_mode=None)
MODULE = "hpo_service.training.data.report"


@app.callback()
def data() -> None:
    """Look at the data of a study file."""


@app.command(
    epilog=examples(
        "hpo-service data report mine.yaml",
        "hpo-service data report mine.yaml --json | jq .whole.p99",
    )
)
def report(file: StudyPath, as_json: AsJson = False) -> None:
    """Tokenise the rows of a study file and say what they are like: parts, lengths, what is cut, repeated or leaked.

    The tokenised rows are kept, so the study need not do it again. Data that cannot be used are one line, and the
    exit status is 1.
    """
    from hpo_service.cli.console import console, print_json
    from hpo_service.cli.study_source import load_study

    spec = load_study(file, warn=not as_json)
    if as_json:
        found = ask_for_report(spec)
        print_json({**found.model_dump(), "warnings": found.warnings()})
        return
    from rich.markup import escape

    with console(stderr=True).status("reading the rows") as status:
        found = ask_for_report(spec, tell=lambda line: status.update(escape(line)))
    for table in report_tables(found):
        console().print(table)
    for warning in found.warnings():
        typer.echo(f"warning: {warning}")


def ask_for_report(
    spec: StudySpec, settings: Settings | None = None, tell: Callable[[str], object] = lambda _: None
) -> DataReport:
    """Let a child process look at the rows of a study: this one never loads what trains models.

    Args:
        spec: the study.
        settings: where the cache is; this process's own by default.
        tell: given each line that the child writes about what it is doing.

    Raises:
        UsageError: the study has no rows.
        DataError: the rows or the tokenizer cannot be used.
        ChildError: the child ended without an answer.
    """
    if spec.data is None or spec.model is None:
        raise UsageError(f"study {spec.name} has an objective of its own, and so no data to report on")
    request = {
        "data": spec.data.model_dump(mode="json"),
        "model": spec.model.model_dump(mode="json"),
        "cache": str((settings or Settings.read()).cache),
    }
    status, said, last = _ask(json.dumps(request), tell)
    try:
        answer = json.loads(said)
    except ValueError:
        raise ChildError(f"the data report ended with status {status}: {last}{_remedy(last)}") from None
    if "error" in answer:
        raise DataError(answer["error"])
    return DataReport.model_validate(answer["report"])


def _ask(request: str, tell: Callable[[str], object]) -> tuple[int, str, str]:
    """Run the child; return its status, its answer, and the last line that it wrote beside it."""
    last = "it wrote nothing"
    command = [sys.executable, "-m", MODULE]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        with suppress(BrokenPipeError), child.stdin as requests:  # a child that has died says why on its way out
            requests.write(request)
        # the answer is written last and fits into the pipe, so nobody waits for the other
        for line in child.stderr:
            last = line.strip() or last
            tell(last)
        answer = child.stdout.read()
    return child.returncode, answer, last


def _remedy(reason: str) -> str:
    return "; pip install 'hpo-service[train]'" if reason.startswith("ModuleNotFoundError") else ""


def report_tables(found: DataReport) -> list[Table]:
    """Lay out a report: what was found in all, and a row for each part."""
    from rich.table import Table

    about = Table(title=f"data of {found.source}", show_header=False, title_justify="left")
    about.add_column(style="bold", no_wrap=True)
    about.add_column(overflow="fold")
    rows = f"{found.rows_read} read" + (f", {found.rows_split} used" if found.rows_split < found.rows_read else "")
    for label, text in (
        ("format", f"{found.format}; the loss is taken on {'all tokens' if found.learn == 'all' else 'completions'}"),
        ("rows", rows),
        ("leaks", f"{found.leaked} held-out rows removed that stand in another part"),
        ("duplicates", f"{found.duplicates} among training rows, kept; {found.repeated} held-out ones removed"),
        ("longest row", f"{found.whole.longest} tokens: {found.longest_row}"),
        ("padding", f"{found.padding_share:.0%} of a training batch of 8 random rows"),
        ("fingerprint", found.fingerprint),
    ):
        about.add_row(label, text)
    return [about, _parts(found)]


def _parts(found: DataReport) -> Table:
    from rich.table import Table

    columns = {**found.parts, "all": found.whole}
    table = Table("rows and tokens", *columns, title="in each part, lengths before the cut", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, value in MEASURES.items():
        if label != "groups" or found.whole.groups is not None:
            table.add_row(label, *(value(part) for part in columns.values()))
    return table


MEASURES: dict[str, Callable[[PartReport], str]] = {
    "rows": lambda part: f"{part.rows:,}",
    "groups": lambda part: f"{part.groups or 0:,}",
    "tokens of a row: half have at most": lambda part: f"{part.p50:,}",
    "90% have at most": lambda part: f"{part.p90:,}",
    "99% have at most": lambda part: f"{part.p99:,}",
    "the longest has": lambda part: f"{part.longest:,}",
    "rows cut": lambda part: f"{part.truncated_share:.1%}",
    "rows with nothing to learn": lambda part: f"{part.unsupervised_share:.1%}",
    "tokens in all": lambda part: f"{part.tokens:,}",
    "tokens learned": lambda part: f"{part.supervised_tokens:,}",
}
"""What is said of each part, in this order."""
