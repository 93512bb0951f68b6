"""What a first look at a study's data and models found, before any trial."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Level = Literal["error", "warning", "unchecked"]
Subject = Literal["data", "tokenizer", "model", "machine"]


class Finding(BaseModel):
    """One thing that a person should know: an error stops every trial, a warning none.

    What is `unchecked` is not on this machine, so that only a trial will tell.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Level
    subject: Subject
    what: str = Field(description="One sentence, without the place.")
    where: str = Field(default="", description="File and line or row of the first case; empty where it has no place.")
    rows: int = Field(default=1, description="Rows of which it is true, among those that were looked at.")

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        more = f" (and {self.rows - 1} more rows)" if self.rows > 1 else ""
        return f"{place}{self.what}{more}"


def not_here(subject: Subject, name: str) -> Finding:
    """What a hub name comes to that is not in this machine's cache: nothing is downloaded for a look."""
    said = f"the {subject} of {name}" if subject == "tokenizer" else f"model {name}" if subject == "model" else name
    return Finding(level="unchecked", subject=subject, what=f"{said} is not on this machine, so only a trial will tell")
