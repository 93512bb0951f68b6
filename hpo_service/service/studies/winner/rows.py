"""The rows of a recipe, written out as other tools read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpo_service.service.studies.winner.child import answer_of
from hpo_service.service.studies.winner.recipe import Recipe

TRAIN, VALIDATION = "train.jsonl", "validation.jsonl"


@dataclass(frozen=True)
class WrittenRows:
    """Rows in a folder, as the study split them; its test rows are not among them.

    Attributes:
        folder: where `train.jsonl` and `validation.jsonl` lie.
        shape: `prompt-completion`, `text`, `tokenised`, `messages`, or `answers`: conversations whose last turn
            alone is learned.
        train: rows of the training part.
        validation: rows of the validation part.
        model: path or hub name of the base, a builtin one as it lies on this machine.
        end: text of the tokenizer's end mark; empty where it has none.
        template: whether the tokenizer has a chat template.
        unlearned_turns: turns of the assistant that the study does not learn.
    """

    folder: Path
    shape: str
    train: int
    validation: int
    model: str
    end: str
    template: bool
    unlearned_turns: int

    @property
    def conversations(self) -> bool:
        """Whether rows are conversations."""
        return self.shape in ("messages", "answers")


def write_rows(
    recipe: Recipe,
    folder: Path,
    cache: Path,
    *,
    pairs: bool = False,
    ends: bool = False,
    tell: Callable[[str], object] = lambda _: None,
) -> WrittenRows:
    """Let a child write the training and validation rows into a folder, which is created.

    Args:
        recipe: whose rows.
        folder: absolute.
        cache: folder of what can be made again.
        pairs: write conversations with one answer as prompt and completion.
        ends: write the tokenizer's end mark behind completions.
        tell: given each line that the child writes about what it is doing.

    Raises:
        TrialError: the rows, the model or its tokenizer cannot be used.
        ChildError: the child ended without an answer.
    """
    request = {
        "data": recipe.data.model_dump(mode="json"),
        "model": recipe.model.model_dump(mode="json"),
        "name": recipe.base,
        "cache": str(cache),
        "folder": str(folder),
        "pairs": pairs,
        "ends": ends,
    }
    return WrittenRows(folder=folder, **answer_of("rows", request, tell))
