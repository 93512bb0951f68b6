"""What may be asked of every launch, as data: the command line makes its options of it, the database keeps it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hpo_service.errors import UsageError

IDLE_SECONDS = 60.0
"""How long a worker of a launch that goes until the study is done waits for a trial before it leaves."""


def _on_one_line(text: str) -> str:
    if "\n" in text or "\0" in text:
        raise ValueError("it must be one line")
    return text


Line = Annotated[str, AfterValidator(_on_one_line)]
"""Text that stands on one line of what is submitted."""


class LaunchOptions(BaseModel):
    """What may be asked of a launch, whatever the launcher; its own options follow in a class of its own.

    A field's description is the option's help; its alternative names, and a name of its own, are in `flags`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    workers: int | None = Field(
        default=None,
        ge=1,
        description="Workers to start, at most.",
        json_schema_extra={"flags": ["--workers", "--max"]},
    )
    until_done: bool = Field(
        default=False,
        description="Stay, and keep as many workers as there are trials left, up to --workers: idle ones leave, "
        "and when a stage opens others are started.",
    )
    max_device_hours: float | None = Field(
        default=None,
        gt=0,
        description="Start no trial that would take the study beyond so many device hours, all its stages together.",
    )
    max_cost: float | None = Field(
        default=None, gt=0, description="The same in money, by the price of --price-per-hour."
    )
    price_per_hour: float | None = Field(default=None, gt=0, description="What one device costs an hour.")
    idle_seconds: float | None = Field(
        default=None,
        gt=0,
        description=f"A worker leaves that has found no trial for so long; {IDLE_SECONDS:g} with --until-done.",
    )
    drain_seconds: float = Field(
        default=90.0, ge=1, description="Time for a worker to save its trials and leave when it is told to."
    )

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Check options.

        Raises:
            UsageError: one of them is wrong, or they do not fit together.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise UsageError("; ".join(_said(found) for found in error.errors())) from None

    @model_validator(mode="after")
    def _money_has_a_price(self) -> Self:
        if self.max_cost is not None and self.price_per_hour is None:
            raise ValueError("--max-cost needs --price-per-hour, the price of one device for an hour")
        return self

    @property
    def hours(self) -> float | None:
        """The cap in device hours, whichever way it was given; None where there is none."""
        bought = math.inf
        if self.max_cost is not None and self.price_per_hour is not None:
            bought = self.max_cost / self.price_per_hour
        cap = min(bought, self.max_device_hours or math.inf)
        return None if math.isinf(cap) else cap

    @property
    def worker_arguments(self) -> list[str]:
        """What the options say to each worker."""
        idle = self.idle_seconds or (IDLE_SECONDS if self.until_done else None)
        return [
            *("--drain-seconds", f"{self.drain_seconds:g}"),
            *(("--idle-seconds", f"{idle:g}") if idle is not None else ()),
            *(("--max-device-hours", f"{self.hours:g}") if self.hours is not None else ()),
        ]


def _said(found: Any) -> str:
    name = "--" + "-".join(str(part).replace("_", "-") for part in found["loc"] if isinstance(part, str))
    said = str(found["msg"]).removeprefix("Value error, ")
    return f"{name}: {said}" if found["loc"] else said
