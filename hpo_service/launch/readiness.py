"""Is this machine ready? Versions, devices, database, write access: each check is a row, with its remedy."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from hpo_service.domain.study.sections.tracking import TRACKER_PACKAGES
from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import HpoServiceError
from hpo_service.launch.devices import list_gpus
from hpo_service.service.machine import TRAINER_PACKAGES, clock_difference, missing_for_training, try_folder
from hpo_service.service.studies.study_file import is_installed
from hpo_service.service.versions import untested
from hpo_service.settings import Settings
from hpo_service.storage.database import Database
from hpo_service.storage.migrations import check as check_schema
from hpo_service.storage.migrations import current

ENOUGH_DISK_GB = 5.0
MANAGER_PACKAGES = ("hpo-service", "optuna", "sqlalchemy", "alembic", "pydantic")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: with an `error` the manager, or the study that was named, cannot work here."""

    what: str
    level: Literal["ok", "warning", "error"]
    detail: str

    def as_json(self) -> dict[str, str]:
        """The finding as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Machine:
    """What is examined: this machine, with the database, the folders and the study it is to work with."""

    db: Database
    settings: Settings
    study: StudySpec | None = None


@dataclass(frozen=True)
class Check:
    """One examination.

    Attributes:
        name: what its finding is called; several findings have names of their own.
        look: yields what it finds; an expected error that it raises becomes an error finding.
        remedy: what to do about the warnings and errors it gives.
    """

    name: str
    look: Callable[[Check, Machine], Iterator[Finding]]
    remedy: str = ""

    def ok(self, detail: str) -> Finding:
        """All is well."""
        return Finding(self.name, "ok", detail)

    def warning(self, detail: str) -> Finding:
        """Something is missing; the remedy is added."""
        return Finding(self.name, "warning", f"{detail}: {self.remedy}")

    def error(self, detail: str) -> Finding:
        """Nothing works like this; the remedy is added."""
        return Finding(self.name, "error", f"{detail}: {self.remedy}")


def examine(machine: Machine, checks: Sequence[Check] | None = None) -> list[Finding]:
    """Look at everything; a check that breaks becomes an error finding and the others still run."""
    findings: list[Finding] = []
    for check in CHECKS if checks is None else checks:
        try:
            findings += list(check.look(check, machine))
        except (HpoServiceError, OSError) as error:
            findings.append(Finding(check.name, "error", " ".join(str(error).split())))
    return findings


def _python(check: Check, _: Machine) -> Iterator[Finding]:
    yield check.ok(f"{platform.python_version()} on {platform.platform(terse=True)}")


def _manager(check: Check, _: Machine) -> Iterator[Finding]:
    yield check.ok(_versions(MANAGER_PACKAGES))


def _trainer(check: Check, _: Machine) -> Iterator[Finding]:
    missing = missing_for_training()
    if missing:
        yield check.warning(f"{', '.join(missing)} not installed; this machine can manage but not train")
        return
    yield check.ok(_versions(TRAINER_PACKAGES))


def _tested(check: Check, _: Machine) -> Iterator[Finding]:
    lines = untested()
    for line in lines:
        yield check.warning(line)
    if not lines:
        yield check.ok("every library is a version that the tests were run with")


def _trackers(check: Check, _: Machine) -> Iterator[Finding]:
    if missing_for_training():  # only trials write to them
        return
    trackers = [name for name, package in TRACKER_PACKAGES.items() if is_installed(package)]
    yield check.ok(", ".join(trackers) or f"none installed: {check.remedy}")


def _devices(check: Check, _: Machine) -> Iterator[Finding]:
    gpus = list_gpus()
    for gpu in gpus:
        yield Finding(f"gpu {gpu.index}", "ok", f"{gpu.name}, {gpu.memory_mib / 1024:.0f} GiB")
    if not gpus:
        yield check.warning("no GPU found (nvidia-smi)")


def _database(check: Check, machine: Machine) -> Iterator[Finding]:
    db = machine.db
    if db.missing:
        yield check.ok(f"there is none at {db.safe_url} yet")
        yield Finding("schema", "warning", f"empty database: {check.remedy}")
        return
    with db.transaction():
        now = datetime.fromtimestamp(db.clock(), tz=UTC)
    yield check.ok(f"{db.safe_url} answers (its clock: {now:%Y-%m-%d %H:%M:%S} UTC)")
    if difference := clock_difference(db):
        yield Finding("clock", "warning", difference)
    if current(db) is None:
        yield Finding("schema", "warning", f"empty database: {check.remedy}")
        return
    check_schema(db)
    yield Finding("schema", "ok", f"at revision {current(db)}")


def _output(check: Check, machine: Machine) -> Iterator[Finding]:
    yield _folder(check, machine.settings.output)


def _cache(check: Check, machine: Machine) -> Iterator[Finding]:
    yield _folder(check, machine.settings.cache)


def _folder(check: Check, folder: Path) -> Finding:
    free = try_folder(folder)
    level: Literal["ok", "warning"] = "ok" if free >= ENOUGH_DISK_GB else "warning"
    return Finding(check.name, level, f"{folder} is writable, {free:.0f} GB free")


def _versions(packages: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


CHECKS = (
    Check("python", _python),
    Check("manager", _manager),
    Check("trainer", _trainer, "pip install 'hpo-service[train]'"),
    Check("tested versions", _tested, "it may well work; where it does not, install a version among those"),
    Check("trackers", _trackers, "pip install 'hpo-service[trackers]'"),
    Check("devices", _devices, "trials run on the CPU, fit for tiny models only"),
    Check("database", _database, "`run`, `worker` and `db upgrade` create the schema"),
    Check("output folder", _output),
    Check("cache folder", _cache),
)
"""What `doctor` looks at, in this order."""
