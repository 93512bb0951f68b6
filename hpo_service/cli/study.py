"""`hpo-service study`: study files and the studies made of them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson, StorageUrl
from hpo_service.cli.study_file import Quick, StudyPath, check_text, looked_at
from hpo_service.errors import ConflictError

app = typer.Typer(
    help="Check study files; create, list, show and steer studies.", no_args_is_help=True, rich_markup_mode=None
)


@app.command(
    epilog=examples(
        "hpo-service study validate studies/quickstart.yaml",
        "hpo-service study validate mine.yaml --json",
        "hpo-service study validate mine.yaml --quick",
    )
)
def validate(file: StudyPath, quick: Quick = False, storage: StorageUrl = None, as_json: AsJson = False) -> None:
    """Check a study file without training: print what it will do and which effect it can prove, with warnings.

    What is wrong with the file is one line that names file, line and key. Then the first rows, the tokenizer and the
    models are looked at, as far as they are on this machine, and all that is wrong with them is told, a line each.
    Where anything is wrong the exit status is 2. What confirm can see follows from earlier studies of the database,
    or else from an assumption that is said; --quick leaves it out too.
    """
    from hpo_service.cli.rendering.ahead import foreseen, print_ahead
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.service.studies.first_look import refuse_unusable
    from hpo_service.service.studies.study_file import read_study_file

    if not as_json:
        count = print_ahead(file, storage, quick=quick)
        typer.echo(f"{file} is valid" + (f", warnings: {count}" if count else ""))
        return
    study = read_study_file(file)
    found = [] if quick else looked_at(study.spec)
    sight, outlays = (None, []) if quick else foreseen(study.spec, storage)
    warnings = [{"line": w.line, "key": w.key, "message": w.message} for w in study.warnings]
    findings = [each.model_dump() for each in found]
    said = study.spec.model_dump(mode="json")
    document = {"file": str(file), "warnings": warnings, "findings": findings, "study": said}
    ahead = {"sensitivity": asdict(sight) if sight else None, "outlays": [asdict(outlay) for outlay in outlays]}
    print_json({**document, **ahead})
    refuse_unusable(found)


@app.command(
    "import",
    epilog=examples(
        "hpo-service study import sweep.yaml --output mine.yaml",
        "hpo-service study import sweep.yaml > mine.yaml",
    ),
)
def import_sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP", help="A sweep file of Weights & Biases (YAML).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The study file; printed where left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a study file of a W&B sweep file: ranges, method, early termination and command.

    Every key that means something else here, or nothing, is named on standard error and in the file itself. What the
    script reports it is to print, one JSON object a line: see the page on objectives of your own.
    """
    from hpo_service.cli.rendering.console import print_json
    from hpo_service.presentation.study_text import translated_text
    from hpo_service.service.studies.study_file import read_sweep_file

    found = read_sweep_file(file)
    text = translated_text(found, file.name)
    check_text(text, output or file)
    if output is not None:
        if output.exists() and output.read_text(encoding="utf-8", errors="replace") != text:
            raise ConflictError(f"{output} is there already and says something else: name another with --output")
        output.write_text(text, encoding="utf-8")
    if as_json:
        print_json({"study": found.study, "remarks": [asdict(remark) for remark in found.remarks]})
    elif output is None:
        sys.stdout.write(text)
    for remark in [] if as_json else found.remarks:
        sys.stderr.write(f"note: {file}:{remark}\n")
    if output is not None and not as_json:
        typer.echo(f"{output} is valid: `hpo-service study validate {output}` says what it will do")


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
