"""The winner's adapter merged into its base, by a child process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpo_service.domain.study.methods import METHODS
from hpo_service.errors import UsageError
from hpo_service.service.studies.winner.child import answer_of
from hpo_service.service.studies.winner.own_folder import MARK, claim
from hpo_service.service.studies.winner.recipe import Recipe


@dataclass(frozen=True)
class Merged:
    """Merged weights: where, how many, of which type, and a remark on how they came about."""

    folder: Path
    parameters: int
    dtype: str
    remark: str


def merge(
    recipe: Recipe, adapter: Path, folder: Path, cache: Path, tell: Callable[[str], object] = lambda _: None
) -> Merged:
    """Merge an adapter into the base that it was trained on; an earlier merge in the folder is replaced whole.

    Args:
        recipe: of the run that the adapter is of.
        adapter: its folder.
        folder: where the model goes; it holds nothing but an earlier merge.
        cache: folder of what can be made again.
        tell: given each line about what is being done.

    Raises:
        UsageError: the method has no adapter that could be merged.
        ConflictError: something else lies in the folder.
        TrialError: base or adapter cannot be loaded.
        ChildError: the child ended without an answer.
    """
    method = METHODS[recipe.training.method]
    if not method.low_rank:
        what = "a prefix is no part of any weight" if method.virtual_tokens else f"{adapter} is a whole model already"
        raise UsageError(f"study {recipe.study} has nothing to merge: {what}")
    claim(folder, "merge")
    request = {
        "adapter": str(adapter.absolute()),
        "base": recipe.base,
        "revision": recipe.revision,
        "trust_remote_code": recipe.model.trust_remote_code,
        "dtype": recipe.dtype,
        "cache": str(cache),
        "folder": str(folder.absolute()),
        "mark": MARK,
        "chat_template": recipe.data.chat_template,
    }
    answer = answer_of("merging", request, tell)
    remark = ""
    if recipe.held != "none":
        remark = (
            f"the adapter was trained on a base in {'4' if recipe.held == 'nf4' else '8'} bits ({recipe.held}) and is "
            f"merged into the base as published, in {answer['dtype']}: outputs differ slightly from those measured"
        )
    return Merged(folder, answer["parameters"], answer["dtype"], remark)
