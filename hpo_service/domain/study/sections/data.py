"""The rows of a study: where they come from, how they are read, cut and held out."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from hpo_service.domain.study.sections.section import Section
from hpo_service.domain.study.sources import BUILTIN, DataFile, is_pattern, looks_local
from hpo_service.domain.study.spelling import unknown
from hpo_service.domain.study.validation import Violations, refusal

RowFormat = Literal["auto", "prompt-completion", "alpaca", "messages", "sharegpt", "tokenised", "text"]
Learned = Literal["completions", "all"]
HeldOut = Literal["validation", "test"]
Name = Annotated[str, Field(min_length=1)]
Names = Name | Annotated[list[Name], Field(min_length=1)]

COLUMNS = (
    *("prompt", "completion", "messages", "conversations", "text", "instruction", "input", "output", "history"),
    *("system", "tools", "role", "content", "input_ids", "labels", "attention_mask"),
)
"""What `data.columns` may give a name to: the columns of all formats, and a turn's two fields."""
PAIRS: tuple[RowFormat, ...] = ("auto", "prompt-completion", "alpaca")
"""Formats whose rows are, or may turn out to be, a prompt and what answers it."""
WITHOUT_PROMPT: tuple[RowFormat, ...] = ("tokenised", "text")
"""Formats whose rows have no place for a system text."""


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

    source: Names = Field(
        description="Local file or folder, pattern such as `rows/*.jsonl`, hub dataset name, or `builtin:` name; or a "
        "list of them, whose rows are taken together.",
    )
    validation: Names | None = Field(
        default=None,
        description="Where the validation rows come from, written as `source` is; left out, a share of `source`. Of a "
        "data set with splits it is the one called so.",
    )
    test: Names | None = Field(default=None, description="The same for the test rows.")
    subset: str | None = Field(
        default=None, min_length=1, description="Configuration of a hub data set that has several."
    )
    hub_split: str | None = Field(
        default=None,
        min_length=1,
        description="Split of a hub data set whose rows are used; left out, `train` or else its first.",
    )
    format: RowFormat = Field(default="auto", description="Shape of a row; auto looks at the column names.")
    columns: dict[str, Name] = Field(
        default_factory=dict,
        description="What the file calls the columns of the format: `{prompt: question, completion: answer}`. `role` "
        "and `content` are the fields of a turn.",
    )
    prompt_template: str | None = Field(
        default=None,
        min_length=1,
        description="Text that makes a row's prompt of its columns: `Question: {question}`. Braces of its own are "
        "written twice.",
    )
    system: str | None = Field(
        default=None, min_length=1, description="System text for rows that have none: a first turn, or before a prompt."
    )
    as_chat: bool = Field(
        default=False,
        description="Render prompts and completions with the chat template, as a user's and an assistant's turn.",
    )
    chat_template: str | None = Field(
        default=None,
        min_length=1,
        description="Chat template in place of the model's: Jinja, or a file that holds it.",
    )
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
    weight: str | None = Field(
        default=None,
        min_length=1,
        description="Column of numbers that the loss of each row is multiplied with in training; rows of weight 0 are "
        "left out. What is evaluated is not weighted.",
    )
    max_length: int = Field(default=512, ge=8, le=131072, description="Tokens per row; longer rows are cut.")
    max_rows: int | None = Field(
        default=None, ge=10, description="Use at most this many rows of `source`, chosen by hash."
    )
    pack_rows: bool = Field(
        default=False,
        description="Lay short training rows end to end in sequences of up to max_length; the loss stays the same.",
    )

    @property
    def sources(self) -> tuple[str, ...]:
        """What `source` names, one or several."""
        return _listed(self.source)

    @property
    def held_out(self) -> dict[HeldOut, tuple[str, ...]]:
        """What the parts are read from that have rows of their own, by part."""
        given = {part: getattr(self, part) for part in get_args(HeldOut)}
        return {part: _listed(names) for part, names in given.items() if names is not None}

    @property
    def called(self) -> str:
        """The source in a few words, for messages."""
        first, *others = self.sources
        return f"{first} and {len(others)} more" if others else first

    def places(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Every name of rows, with the place in the section where it is written."""
        for key in ("source", *get_args(HeldOut)):
            given = getattr(self, key)
            if isinstance(given, str):
                yield (key,), given
            else:
                yield from (((key, index), name) for index, name in enumerate(given or ()))

    @model_validator(mode="after")
    def _hub_choices_are_for_the_hub(self) -> Self:
        wrong = Violations()
        if all(name.startswith(BUILTIN) or looks_local(name) for name in self.sources):
            for key in ("subset", "hub_split"):
                if getattr(self, key) is not None:
                    wrong.add(f"is for data sets from the hub, and {self.called} is none: drop it", key)
        wrong.settle("DataSpec")
        return self

    @model_validator(mode="after")
    def _held_out_rows_are_others(self) -> Self:
        wrong = Violations()
        for place, name in self.places():
            # a data set may have a split for each part
            if place[0] != "source" and name in self.sources and (name.endswith((*DataFile,)) or is_pattern(name)):
                wrong.add("is what is trained on: name other rows, or leave it out for a share of source", *place)
        wrong.settle("DataSpec")
        return self

    @model_validator(mode="after")
    def _columns_are_those_of_formats(self) -> Self:
        wrong = Violations()
        for name, theirs in self.columns.items():
            if name not in COLUMNS and theirs in COLUMNS:
                wrong.add(f"stands the wrong way round: write {theirs}: {name}", "columns", name)
            elif name not in COLUMNS:
                wrong.add(unknown("column of a format", name, COLUMNS), "columns", name)
        wrong.settle("DataSpec")
        return self

    @model_validator(mode="after")
    def _settings_fit_the_format(self) -> Self:
        wrong = Violations()
        if self.as_chat and self.format not in PAIRS:
            wrong.add(f"is for rows of prompt and completion, not for {self.format}: drop it", "as_chat")
        if self.system is not None and self.format in WITHOUT_PROMPT:
            wrong.add(f"has no place in rows of the format {self.format}: drop it", "system")
        if self.prompt_template is not None:
            reason = self._why_no_prompt(self.prompt_template)
            if reason:
                wrong.add(reason, "prompt_template")
        wrong.settle("DataSpec")
        return self

    def _why_no_prompt(self, template: str) -> str | None:
        if self.format not in ("auto", "prompt-completion"):
            return f"makes the prompt of prompt-completion rows, not of {self.format}: drop it"
        if "prompt" in self.columns:
            return "makes the prompt, and so does data.columns.prompt: drop one"
        try:
            columns = placeholders(template)
        except ValueError as error:
            return f"cannot be filled in: {error}; a brace that is meant as such is written twice"
        return None if columns else "names no column: write it as {column}"


def placeholders(template: str) -> list[str]:
    """The columns that a prompt's template names, in order.

    Raises:
        ValueError: a brace is left open, or one holds something else than a column's name.
    """
    found = []
    for _, name, layout, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name or layout or conversion or set(name) & set(".["):
            written = f"{name}{f'!{conversion}' if conversion else ''}{f':{layout}' if layout else ''}"
            raise ValueError(f"{{{written}}} is no column's name")
        found.append(name)
    return found


def _listed(names: str | list[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
