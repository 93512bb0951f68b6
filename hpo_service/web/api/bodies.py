"""What requests say: their bodies, and the parameters that several share."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from hpo_service.domain.access import Role
from hpo_service.domain.study.protocol import STAGES
from hpo_service.errors import StudyFileError

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
"""Text of one line: what databases and terminals take."""
MOST_ID = 2**31 - 1
"""The largest number that a row can have."""
FILE_NAME = "study"
"""What messages call a study file that was sent."""

StudyName = Annotated[str, Path(description="Name of the study.", max_length=100, examples=["quickstart"])]
StageName = Annotated[
    str, Path(description=f"One of {', '.join(STAGES)}.", max_length=16, examples=[next(iter(STAGES))])
]
TrialNumber = Annotated[int, Path(description="Number of the trial within its stage.", ge=0, le=MOST_ID, examples=[0])]
WorkerId = Annotated[str, Path(description="Id of the worker.", max_length=200, examples=["node7-4711-a3f1"])]
TokenId = Annotated[str, Path(description="Id of the access token.", max_length=16, examples=["3f2a9c1d"])]


class Body(BaseModel):
    """Unknown members are errors."""

    model_config = ConfigDict(extra="forbid")


class Why(Body):
    """Why something is done; it is stored and shown."""

    reason: str | None = Field(
        default=None, max_length=500, pattern=PRINTABLE, examples=["the nodes are needed elsewhere"]
    )


class NewToken(Body):
    """An access token to be made."""

    name: str = Field(min_length=1, max_length=100, pattern=PRINTABLE, examples=["grafana"])
    role: Role = Field(examples=[Role.VIEWER])
    days: float | None = Field(
        default=None, gt=0, le=3650, description="How long it is good for; by default until it is revoked."
    )


STUDY_BODY: dict[str, Any] = {
    "required": True,
    "description": "A study file, YAML or JSON, as `hpo-service study schema` describes it. Paths in it are read by "
    "the workers, so they are absolute.",
    "content": {
        "application/yaml": {
            "schema": {"type": "string"},
            "example": "name: a\nmodel: {base: builtin:llama-tiny}\ndata: {source: builtin:stdlib-docstrings}\n",
        },
        "application/json": {
            "schema": {"type": "object"},
            "example": {
                "name": "first-look",
                "model": {"base": "builtin:llama-tiny"},
                "data": {"source": "builtin:stdlib-docstrings"},
            },
        },
    },
}


async def _study_text(request: Request) -> str:
    """Return the study file that a request carries, as YAML."""
    try:
        text = (await request.body()).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise StudyFileError(f"{FILE_NAME}: is not UTF-8 text; send it as UTF-8") from None
    return _as_yaml(text) if _is_json(request) else text


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower().endswith("json")


def _as_yaml(text: str) -> str:
    """Write JSON so that YAML reads the same: JSON may indent by tabs, and is read strictly first."""
    try:
        return json.dumps(json.loads(text, object_pairs_hook=_unique), indent=1, ensure_ascii=False)
    except RecursionError:
        raise StudyFileError(f"{FILE_NAME}: is nested too deeply") from None
    except ValueError as error:
        raise StudyFileError(f"{FILE_NAME}: is not JSON ({error}); correct it, or send YAML") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice in one object")
    return found


StudyText = Annotated[str, Depends(_study_text)]
"""A handler's parameter that is the study file of the request's body, as YAML."""
