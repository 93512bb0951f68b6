"""What is exchanged about a trial: frozen, without unknown fields, losses that are not finite as they are."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A value that travels between processes as JSON."""

    # a loss that is not finite travels as NaN or Infinity, not as null
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")
