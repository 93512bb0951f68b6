"""Refusals keep their place when models are put into models."""

from __future__ import annotations

from typing import Self

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from hpo_service.domain.study.validation import MISFIT, Violations, refusal


class Inner(BaseModel):
    size: int = Field(default=1, le=9)
    name: str = "x"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "bad":
            raise refusal("Inner", "is {bad}", "name")
        return self

    @field_validator("size")
    @classmethod
    def _not_thirteen(cls, size: int) -> int:
        if size == 7:
            raise ValueError("seven is taken")
        return size


class Outer(BaseModel):
    inner: Inner = Inner()
    given: dict[str, object] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        wrong = Violations()
        try:
            Inner.model_validate(self.given)
        except ValidationError as error:
            wrong.adopt(error, "given")
            wrong.adopt_value(error, "first")
        wrong.settle("Outer")
        return self


def test_a_refusal_inside_a_model_gets_the_outer_path_and_keeps_its_words():
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate({"inner": {"name": "bad"}})
    (error,) = refused.value.errors()
    assert (error["type"], error["loc"], error["msg"]) == (MISFIT, ("inner", "name"), "is {bad}")


@pytest.mark.parametrize(
    "given, kind, message",
    [
        ({"size": 10}, "less_than_equal", "Input should be less than or equal to 9"),
        ({"size": 7}, "value_error", "Value error, seven is taken"),
        ({"name": "bad"}, MISFIT, "is {bad}"),
    ],
)
def test_errors_of_a_check_on_a_part_are_taken_over_with_its_place(given, kind, message):
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate({"given": given})
    moved, as_value = refused.value.errors()
    assert (moved["type"], moved["loc"], moved["msg"]) == (kind, ("given", next(iter(given))), message)
    assert (as_value["loc"], as_value["msg"]) == (("first",), message)


def test_nothing_wrong_raises_nothing():
    Violations().settle("Outer")
    assert Outer().inner.size == 1
