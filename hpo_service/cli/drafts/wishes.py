"""What somebody who has no study file asks for, and the file that is written for it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo_service.cli.study_file import check_text
from hpo_service.domain.study.sources import BUILTIN, looks_local
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


@dataclass(frozen=True)
class Asked:
    """What was asked for, where its file goes, and the command that asks for it again."""

    wishes: Wishes
    path: Path
    command: str


def read_wishes(
    model: str,
    data: str,
    target: str | None,
    name: str | None,
    method: str | None,
    only: str | None,
    budget: str | None,
    keys: list[str] | None,
    gpu: float | None = None,
    file: Path | None = None,
) -> Asked:
    """Read what was asked for on the command line; names of files here are made to hold where the study file lies.

    Raises:
        UsageError: an option cannot be read, or there is no such method.
    """
    from hpo_service.domain.study.methods import METHODS
    from hpo_service.domain.study.spelling import unknown

    if method is not None and method not in METHODS:
        raise UsageError(f"--method {method} {unknown('method', method, METHODS)}")
    trials, hours = read_budget(budget) if budget is not None else (None, None)
    searched = tuple(part.strip() for part in (only or "").split(",") if part.strip())
    path = file or Path(f"{name or study_name(target or model, data)}.yaml")
    base, rows, larger = _from(path, model), _from(path, data), _from(path, target) if target else None
    words = ["hpo-service", "init", model, data]
    options = {"target": target, "name": name, "method": method, "only": only, "budget": budget, "gpu": gpu}
    for option, value in {**options, "file": file}.items():
        words += [f"--{option}", str(value)] if value is not None else []
    for key in keys or ():
        words += ["--set", key]
    command = " ".join(shlex.join(words).split())
    called = name or study_name(target or model, data)
    wishes = Wishes(base, rows, larger, called, method, searched, trials, hours, _keys(keys or []))
    return Asked(wishes, path, command)


def _from(path: Path, name: str) -> str:
    """Return a name that means in the study file what it means here."""
    local = not name.startswith(BUILTIN) and (looks_local(name) or Path(name).expanduser().exists())
    if not local or path.absolute().parent == Path.cwd():
        return name
    return str(Path(name).expanduser().absolute())


def _keys(given: list[str]) -> Mapping[KeyPath, Any]:
    from ruamel.yaml.error import YAMLError

    found: dict[KeyPath, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            raise UsageError(f"--set {text}: write KEY=VALUE, as in training.epochs=2")
        try:
            found[path] = _value(value)
        # beside its own errors the parser lets those of Python through: dates, numbers, nesting
        except (YAMLError, ValueError, RecursionError) as error:
            words = " ".join(str(error).split())
            raise UsageError(f"--set {text}: the value is not YAML: {words}") from None
    return found


def _value(text: str) -> Any:
    """Read a value as YAML; what is a text is taken whole, with a # that YAML would take for a comment."""
    from ruamel.yaml import YAML

    text = text.strip()
    read = YAML(typ="safe", pure=True).load(text)
    is_text = isinstance(read, str) or (read is None and text not in ("", "~", "null"))
    return text if is_text and text[0] not in "'\"|>" else read


def write_study(asked: Asked, gpu: float | None, *, overwrite: bool = False, quiet: bool = False) -> str:
    """Look at rows, models and memory, and write the study file; one that is there already and says the same is kept.

    Returns:
        Its text.

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

    path, memory = asked.path, gpu or min(gpu_sizes(), default=None)
    with console(stderr=True).status("reading the rows") as status:
        draft, missing = draft_of(
            asked.wishes,
            path=path,
            write=drafted_text,
            memory_gb=memory,
            cache=Settings.read().cache,
            tell=lambda line: status.update(escape(line)),
        )
    for line in [] if quiet else missing:
        sys.stderr.write(f"note: {line}\n")
    text = drafted_text(draft, asked.command)
    check_text(text, path)
    if not overwrite and path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
        raise ConflictError(
            f"{path} is there already and says something else: run it with `hpo-service run {path}`, "
            "name another with --file, or write over it with --overwrite"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return text


def is_of(asked: Asked) -> bool:
    """Whether the study file was written for this very wish, whatever a person has changed in it since."""
    from hpo_service.presentation.study_text import drafted_head

    if not asked.path.is_file():
        return False
    with asked.path.open(encoding="utf-8", errors="replace") as file:
        return file.readline() == drafted_head(asked.command)
