"""`hpo-service doctor`: is this machine ready? Versions, devices, database, write access, each with its remedy."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from hpo_service.cli.options import AsJson, OutputFolder, StorageUrl, open_service
from hpo_service.cli.study_source import is_installed
from hpo_service.domain.study.sections.tracking import TRACKER_PACKAGES
from hpo_service.errors import HpoServiceError

if TYPE_CHECKING:
    from hpo_service.bootstrap import Service

ENOUGH_DISK_GB = 5.0
TRAINER_PACKAGES = ("torch", "transformers", "peft", "datasets", "accelerate", "bitsandbytes")
MANAGER_PACKAGES = ("hpo-service", "optuna", "sqlalchemy", "alembic", "pydantic")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `warning` leaves the manager usable, `error` does not."""

    what: str
    level: Literal["ok", "warning", "error"]
    detail: str

    def as_json(self) -> dict[str, str]:
        """The finding as plain data."""
        return asdict(self)


def doctor(storage: StorageUrl = None, output: OutputFolder = None, as_json: AsJson = False) -> None:
    """Check this machine: versions, devices, database, write access. Exit status 1 where something is broken."""
    from hpo_service.cli.console import console, print_json

    findings = examine(open_service(storage, output))
    if as_json:
        print_json([finding.as_json() for finding in findings])
    else:
        marks = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "error": "[red]error  [/]"}
        for finding in findings:
            console().print(f"{marks[finding.level]} {finding.what}: ", end="")
            typer.echo(finding.detail)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def examine(service: Service) -> list[Finding]:
    """Look at everything; a check that breaks becomes an error finding and the others still run."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _versions),
        ("trainer", _trainer),
        ("devices", _devices),
        ("database", lambda: _database(service)),
        ("output folder", lambda: _folder("output folder", service.settings.output)),
        ("cache folder", lambda: _folder("cache folder", service.settings.cache)),
    ]
    findings: list[Finding] = []
    for what, check in checks:
        try:
            findings += list(check())
        except (HpoServiceError, OSError) as error:
            findings.append(Finding(what, "error", " ".join(str(error).split())))
    return findings


def _versions() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in MANAGER_PACKAGES)
    yield Finding("manager", "ok", versions)


def _trainer() -> Iterator[Finding]:
    missing = [name for name in TRAINER_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        remedy = "this machine can manage but not train: pip install 'hpo-service[train]'"
        yield Finding("trainer", "warning", f"{', '.join(missing)} not installed; {remedy}")
        return
    yield Finding("trainer", "ok", ", ".join(f"{n} {importlib.metadata.version(n)}" for n in TRAINER_PACKAGES))
    trackers = [name for name, package in TRACKER_PACKAGES.items() if is_installed(package)]
    yield Finding("trackers", "ok", ", ".join(trackers) or "none installed: pip install 'hpo-service[trackers]'")


def _devices() -> Iterator[Finding]:
    from hpo_service.launch.devices import list_gpus

    gpus = list_gpus()
    for gpu in gpus:
        yield Finding(f"gpu {gpu.index}", "ok", f"{gpu.name}, {gpu.memory_mib / 1024:.0f} GiB")
    if not gpus:
        yield Finding(
            "devices", "warning", "no GPU found (nvidia-smi): trials run on the CPU, fit for tiny models only"
        )


def _database(service: Service) -> Iterator[Finding]:
    from hpo_service.storage.migrations import check, current

    with service.db.transaction():
        now = service.db.clock()
    yield Finding("database", "ok", f"{service.db.safe_url} answers (its clock: {now:.0f})")
    if current(service.db) is None:
        yield Finding("schema", "warning", "empty database: `run`, `worker` and `db upgrade` create the schema")
        return
    check(service.db)
    yield Finding("schema", "ok", f"at revision {current(service.db)}")


def _folder(what: str, folder: Path) -> Iterator[Finding]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder) as probe:
        probe.write(b"x")
    free = shutil.disk_usage(folder).free / 1e9
    level: Literal["ok", "warning"] = "ok" if free >= ENOUGH_DISK_GB else "warning"
    yield Finding(what, level, f"{folder} is writable, {free:.0f} GB free")
