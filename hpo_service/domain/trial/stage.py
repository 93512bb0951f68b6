"""The stages a study goes through."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """The three stages of a study, in order; each is one Optuna study named `<study>/<stage>`."""

    SEARCH = "search"
    VERIFY = "verify"
    CONFIRM = "confirm"
