"""What somebody who has no study file asks for, and the file that is written for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo_service.cli.study_file import check_text
from hpo_service.domain.studyfile.draft import KeyPath, Wishes, read_budget, study_name
from hpo_service.errors import ConflictError, UsageError
from hpo_service.settings import Settings

Target = Annotated[
    str | None, typer.Option("--target", metavar="MODEL", help="The larger model that the configuration is for.")
]
Name = Annotated[str | None, typer.Option("--name", help="Name of the study; by default after model and rows.")]
Method = Annotated[
    str | None, typer.Option("--method", help="lora, qlora, dora, ...; by default lora, or qlora where only that fits.")
]
Only = Annotated[str | None, typer.Option("--only", metavar="A,B", help="Search these hyper-parameters and no others.")]
Budget = Annotated[
    str | None, typer.Option("--budget", metavar="20h|40", help="Of all stages: device hours (20h), or trials (40).")
]
Gpu = Annotated[
    float | None,
    typer.Option("--gpu", metavar="GB", min=0.1, help="Memory of the GPUs; by default of the smallest one here."),
]
Keys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key of the study file, as in training.epochs=2; repeatable."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over a study file that is there already.")]
File = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="The study file to write; by default NAME.yaml.")
]


def read_wishes(
    model: str,
    data: str,
    target: str | None,
    name: str | None,
    method: str | None,
    only: str | None,
    budget: str | None,
    keys: list[str] | None,
) -> Wishes:
    """Read what was asked for on the command line.

    Raises:
        UsageError: an option cannot be read, or there is no such method.
    """
    from hpo_service.domain.study.methods import METHODS
    from hpo_service.domain.study.spelling import unknown

    if method is not None and method not in METHODS:
        raise UsageError(f"--method {method} {unknown('method', method, METHODS)}")
    trials, hours = read_budget(budget) if budget is not None else (None, None)
    searched = tuple(part.strip() for part in (only or "").split(",") if part.strip())
    return Wishes(model, data, target, name, method, searched, trials, hours, _keys(keys or []))


def _keys(given: list[str]) -> Mapping[KeyPath, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    found: dict[KeyPath, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            raise UsageError(f"--set {text}: write KEY=VALUE, as in training.epochs=2")
        try:
            found[path] = YAML(typ="safe", pure=True).load(value)
        except YAMLError as error:
            words = " ".join(str(error).split())
            raise UsageError(f"--set {text}: the value is not YAML: {words}") from None
    return found


def write_study(
    wishes: Wishes, file: Path | None, gpu: float | None, *, overwrite: bool = False, quiet: bool = False
) -> tuple[Path, str]:
    """Look at rows, models and memory, and write the study file; one that is there already and says the same is kept.

    Returns:
        Where it lies, and its text.

    Raises:
        ConflictError: another file is there.
        UsageError, StudyFileError: what was asked for does not fit together.
        DataError: the rows cannot be used.
    """
    from rich.markup import escape

    from hpo_service.cli.rendering.console import console
    from hpo_service.launch.devices import gpu_sizes
    from hpo_service.presentation.study_text import drafted_text
    from hpo_service.service.studies.drafting import draft_of

    path = file or Path(f"{wishes.name or study_name(wishes.target or wishes.model, wishes.data)}.yaml")
    memory = gpu or min(gpu_sizes(), default=None)
    with console(stderr=True).status("reading the rows") as status:
        draft, missing = draft_of(
            wishes,
            path=path,
            write=drafted_text,
            memory_gb=memory,
            cache=Settings.read().cache,
            tell=lambda line: status.update(escape(line)),
        )
    for line in [] if quiet else missing:
        sys.stderr.write(f"note: {line}\n")
    text = drafted_text(draft, _command(wishes))
    check_text(text, path)
    if not overwrite and path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
        raise ConflictError(
            f"{path} is there already and says something else: run it with `hpo-service run {path}`, "
            "name another with --file, or write over it with --overwrite"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path, text


def _command(wishes: Wishes) -> str:
    target = f" --target {wishes.target}" if wishes.target else ""
    return f"hpo-service init {wishes.model} {wishes.data}{target}"
