"""`hpo-service launch LAUNCHER STUDY`: a command for each launcher, whose options are the fields of its own."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, StudyName, open_service, person
from hpo_service.launch.launcher import LAUNCHERS
from hpo_service.launch.options import LaunchOptions
from hpo_service.service.launches import LaunchRow
from hpo_service.service.trials.demand import Demand

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print exactly what would be submitted; start nothing.")]
Detach = Annotated[
    bool,
    typer.Option("--detach", help="Go on in the background where this would stay; it survives the shell."),
]
SHARED = {
    "study": StudyName,
    "dry_run": DryRun,
    "detach": Detach,
    "storage": StorageUrl,
    "output": OutputFolder,
    "as_json": AsJson,
}
"""Parameters of each command that are no options of a launcher."""


def launcher_command(name: str) -> Any:
    """Make the command of a launcher; of which class, is Typer's affair."""

    def command(**given: Any) -> None:
        shared = {each: given.pop(each) for each in SHARED}
        start(name, given, **shared)

    kind = LAUNCHERS[name]
    own = {each: _annotated(each, field) for each, field in kind.options.model_fields.items()}
    annotations = {"study": SHARED["study"], **own, **SHARED}
    defaults: dict[str, Any] = {each: field.get_default() for each, field in kind.options.model_fields.items()}
    defaults |= {"dry_run": False, "detach": False, "storage": None, "output": None, "as_json": False}
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                each,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(each, inspect.Parameter.empty),
                annotation=annotation,
            )
            for each, annotation in annotations.items()
        ]
    )
    command.__annotations__ = dict(annotations)
    command.__doc__ = f"{kind.title}\n\n{_MORE}"
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    alone.command(name, epilog=examples(*kind.examples))(command)
    return typer.main.get_command(alone)


_MORE = """\
The study must be in the database (`study create`). What is launched is written down there: `launch status`, `logs`,
`scale` and `cancel` work later from any machine. Workers end by themselves when the study needs them no more; any of
them may die at any moment.
"""


def start(
    name: str,
    given: dict[str, Any],
    *,
    study: str,
    dry_run: bool,
    detach: bool,
    storage: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Launch workers, or show how they would be."""
    from hpo_service.cli.launch.keeping import keep_here
    from hpo_service.launch.keeper import keep_in_background

    service = open_service(storage, output)
    service.upgrade()
    draft = service.dispatch.draft(name, study, given)
    if cap := cap_text(draft.launch.options, service.demands.of(study, draft.launch.options.hours)):
        typer.echo(cap, err=True)
    if dry_run:
        typer.echo(draft.text, nl=False)
        return
    row = service.dispatch.record(draft, person())
    stays = LAUNCHERS[name].keeps or draft.launch.options.until_done
    if stays and not detach:
        _tell(row, [], as_json=as_json, what=f"launch {row.id}: up to {row.workers} workers for study {study}")
        keep_here(service, row.id)
        return
    if stays:
        process = keep_in_background(draft.launch, service.settings.storage)
        what = (
            f"launch {row.id}: up to {row.workers} workers for study {study}, kept by process {process} on {row.host}"
        )
        _tell(row, [], as_json=as_json, what=what)
        return
    jobs = service.dispatch.begin(row)
    what = f"launch {row.id}: {row.workers} workers for study {study}, submitted as {', '.join(jobs)}"
    _tell(row, jobs, as_json=as_json, what=what)


def _tell(row: LaunchRow, jobs: list[str], *, as_json: bool, what: str) -> None:
    from hpo_service.cli.rendering.console import print_json

    if as_json:
        print_json({"launch": row.id, "study": row.study, "workers": row.workers, "jobs": jobs})
    else:
        typer.echo(what)


def cap_text(options: LaunchOptions, demand: Demand) -> str:
    """Say in advance what a cap on device hours or money leaves; nothing where there is none."""
    cap = options.hours
    if cap is None:
        return ""
    price = options.price_per_hour
    money = f" ({cap * price:.2f} at {price:g} an hour)" if price else ""
    if demand.forbidden:
        return f"the cap of {cap:g} device hours{money} leaves no trial: {demand.forbidden}"
    left = cap - demand.hours.used
    about = (
        f", about {int(left / demand.hours.typical)} trials like those of {demand.stage}"
        if demand.hours.typical
        else ""
    )
    return (
        f"the cap of {cap:g} device hours{money} leaves {left:.3f}{about}: then no trial is started any more, and the "
        f"study waits. It has used {demand.hours.used:.3f}"
    )


def _annotated(name: str, field: FieldInfo) -> Any:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    flags = [str(flag) for flag in extra.get("flags") or [f"--{name.replace('_', '-')}"]]  # type: ignore[union-attr]
    if field.annotation is bool and field.default is True:
        flags = [f"{flags[0]}/--no-{flags[0].removeprefix('--')}"]
    kind = _bare(field.annotation)
    return Annotated[kind, typer.Option(*flags, help=field.description)]


def _bare(annotation: Any) -> Any:
    """The type without what pydantic checks of it, which Typer would take for its own."""
    origin, arguments = getattr(annotation, "__origin__", None), getattr(annotation, "__args__", ())
    if getattr(annotation, "__metadata__", None) is not None:
        return _bare(origin)
    if origin is list:
        return list[_bare(arguments[0])]  # type: ignore[misc]
    if type(None) in arguments:
        return _bare(next(each for each in arguments if each is not type(None))) | None
    return annotation
