"""`hpo-service study`: study files and the studies made of them."""

from __future__ import annotations

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson
from hpo_service.cli.study_file import StudyPath

app = typer.Typer(
    help="Check study files; create, list, show and steer studies.", no_args_is_help=True, rich_markup_mode=None
)


@app.command(
    epilog=examples(
        "hpo-service study validate studies/quickstart.yaml",
        "hpo-service study validate mine.yaml --json",
    )
)
def validate(file: StudyPath, as_json: AsJson = False) -> None:
    """Check a study file without training: print what it will do, with warnings.

    What is wrong is one line that names file, line and key, and the exit status is 2.
    """
    from hpo_service.cli.rendering.console import console, print_json
    from hpo_service.service.studies.study_file import read_study_file

    study = read_study_file(file)
    if as_json:
        warnings = [{"line": w.line, "key": w.key, "message": w.message} for w in study.warnings]
        print_json({"file": str(file), "warnings": warnings, "study": study.spec.model_dump(mode="json")})
        return
    from hpo_service.cli.rendering.pages import summary_page

    console().print(summary_page(study.spec))
    for warning in study.warnings:
        typer.echo(f"warning: {file}:{warning}")
    typer.echo(f"{file} is valid" + (f", warnings: {len(study.warnings)}" if study.warnings else ""))


@app.command(
    epilog=examples(
        "hpo-service study schema > study.schema.json",
        "# then, as the first line of a study file, for editors with a YAML language server:",
        "# yaml-language-server: $schema=study.schema.json",
    )
)
def schema(as_json: AsJson = False) -> None:
    """Print the JSON Schema of study files, with which editors complete and check them as you type."""
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.domain.studyfile.schema import study_schema

    del as_json  # the schema is JSON either way; the switch is accepted so that every command has it
    print_json(study_schema())
