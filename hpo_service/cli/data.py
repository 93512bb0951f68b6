"""`hpo-service data`: what the rows of a study are like, before anything is trained on them."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson
from hpo_service.cli.study_file import StudyPath, load_study
from hpo_service.settings import Settings

app = typer.Typer(help="Look at the data of a study file.", no_args_is_help=True, rich_markup_mode=None)


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
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.service.studies.data_report import report_data

    spec, cache = load_study(file, warn=not as_json), Settings.read().cache
    if as_json:
        found = report_data(spec, cache)
        print_json({**found.model_dump(), "warnings": found.warnings()})
        return
    from rich.markup import escape

    from hpo_service.cli.rendering.pages import data_tables

    with console(stderr=True).status("reading the rows") as status:
        found = report_data(spec, cache, tell=lambda line: status.update(escape(line)))
    for table in data_tables(found):
        console().print(table)
    for warning in found.warnings():
        typer.echo(f"warning: {warning}")


@app.command(
    epilog=examples(
        "hpo-service data show mine.yaml --rows 2",
        "hpo-service data show mine.yaml --json | jq '.rows[0].pieces'",
    )
)
def show(
    file: StudyPath,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="How many, from the first on.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Print rows as the model sees them, with what is learned marked: by colour, or by [[ ]] where there is none.

    The chat template is applied, and rows are cut to length. They are the first of the source, before it is split.
    """
    from rich.text import Text

    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.service.studies.data_report import show_rows

    spec, cache = load_study(file, warn=not as_json), Settings.read().cache
    shown = show_rows(spec, cache, rows)
    if as_json:
        print_json({"rows": [row.model_dump() for row in shown]})
        return
    screen = console()
    for number, row in enumerate(shown):
        typer.echo(("\n" if number else "") + row.summary)
        if screen.color_system is None:
            typer.echo(row.marked())
        else:
            text = Text.assemble(*((piece.text, "bold green" if piece.learned else "dim") for piece in row.pieces))
            screen.print(text, soft_wrap=True)
