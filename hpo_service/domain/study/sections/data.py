"""The rows of a study: where they come from, how they are read, cut and held out."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.sources import BUILTIN, looks_local
from hpo_service.domain.study.validation import Violations, refusal

RowFormat = Literal["auto", "prompt-completion", "alpaca", "messages", "sharegpt", "tokenised", "text"]
Learned = Literal["completions", "all"]


class SplitSpec(Section):
    """Shares of the rows held out, decided by a hash of each row's content before the study starts."""

    validation: float = Field(default=0.1, gt=0, lt=0.5, description="Share that pruning and selection look at.")
    test: float = Field(default=0.1, gt=0, lt=0.5, description="Share scored once, in the confirm stage.")
    seed: int = Field(default=42, ge=0, description="Salt of the hash.")

    @model_validator(mode="after")
    def _most_rows_are_trained_on(self) -> Self:
        if self.validation + self.test > 0.5:
            shares = f"validation {self.validation:g} and test {self.test:g}"
            reason = f"{shares} leave less than half of the rows to train on: lower one"
            raise refusal("SplitSpec", reason)
        return self


class DataSpec(Section):
    """Where the rows come from and how they are cut."""

    source: str = Field(min_length=1, description="Local file or folder, hub dataset name, or `builtin:` name.")
    subset: str | None = Field(
        default=None, min_length=1, description="Configuration of a hub data set that has several."
    )
    hub_split: str | None = Field(
        default=None,
        min_length=1,
        description="Split of a hub data set whose rows are used; left out, `train` or else its first.",
    )
    format: RowFormat = Field(default="auto", description="Shape of a row; auto looks at the column names.")
    learn: Learned = Field(
        default="completions",
        description="What the loss is taken on: completions and the assistant's turns only, or all tokens.",
    )
    split: SplitSpec = Field(default_factory=SplitSpec, description="Held-out shares.")
    group: str | None = Field(
        default=None,
        min_length=1,
        description="Column whose equal values keep rows in one part, such as a document or an author.",
    )
    max_length: int = Field(default=512, ge=8, le=131072, description="Tokens per row; longer rows are cut.")
    max_rows: int | None = Field(default=None, ge=10, description="Use at most this many rows, chosen by hash.")
    pack_rows: bool = Field(
        default=False,
        description="Lay short training rows end to end in sequences of up to max_length; the loss stays the same.",
    )

    @model_validator(mode="after")
    def _hub_choices_are_for_the_hub(self) -> Self:
        wrong = Violations()
        if self.source.startswith(BUILTIN) or looks_local(self.source):
            for key in ("subset", "hub_split"):
                if getattr(self, key) is not None:
                    wrong.add(f"is for data sets from the hub, and {self.source} is none: drop it", key)
        wrong.settle("DataSpec")
        return self
