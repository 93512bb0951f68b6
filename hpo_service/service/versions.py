"""Versions of libraries that the tests were run with, and which of those installed here lie outside of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

TESTED: dict[str, tuple[str, str]] = {
    "optuna": ("5.0.0", "5.0.0"),
    "sqlalchemy": ("2.0.40", "2.1.9"),
    "alembic": ("1.13.0", "1.20.1"),
    "psycopg": ("3.1.18", "3.3.9"),
    "pydantic": ("2.11.0", "2.14.3"),
    "torch": ("2.13.0", "2.13.0"),
    "transformers": ("5.19.0", "5.23.0"),
    "peft": ("0.20.0", "0.21.2"),
    "accelerate": ("1.10.0", "1.15.0"),
    "datasets": ("4.0.0", "5.2.0"),
    "bitsandbytes": ("0.50.0", "0.50.2"),
}
"""The oldest and the newest release that the tests are run with: those of constraints-oldest.txt and constraints.txt.

What `pyproject.toml` allows is wider where the documented interface is older, or nothing newer is known to break."""


def untested(installed: Callable[[str], str] = version, tested: Mapping[str, tuple[str, str]] = TESTED) -> list[str]:
    """One line for each installed library that the tests were not run with; other patches of a release are not told.

    Args:
        installed: tells the version of a library that is installed.
        tested: the oldest and the newest version by library.
    """
    lines = []
    for name, (oldest, newest) in tested.items():
        try:
            here = Version(installed(name))
        except PackageNotFoundError:
            continue
        if here < Version(oldest):
            lines.append(_line(name, here, "older", oldest, newest))
        elif here.release[:2] > Version(newest).release[:2]:
            lines.append(_line(name, here, "newer", oldest, newest))
    return lines


def _line(name: str, here: Version, than: str, oldest: str, newest: str) -> str:
    tested = newest if oldest == newest else f"{oldest} to {newest}"
    return f"{name} {here} is {than} than what this version was tested with ({tested})"
