"""Why something was decided or how it ended, in words that can be stored anywhere."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field


def storable(text: object) -> object:
    """Write out what no database takes as text: NUL characters, and the half characters of undecodable file names."""
    if not isinstance(text, str):
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


Reason = Annotated[str, BeforeValidator(storable), Field(min_length=1)]
"""Why something was decided or how it ended, in words that can be stored anywhere."""
