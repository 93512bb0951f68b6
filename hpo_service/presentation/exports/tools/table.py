"""The tools that a winner can be exported to, by name, and how a study is written out for one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpo_service.errors import UsageError
from hpo_service.presentation.exports.tools import axolotl, llamafactory, peft, script, trl
from hpo_service.presentation.exports.tools.tool import Tool, require_method
from hpo_service.service.studies.winner.own_folder import claim
from hpo_service.service.studies.winner.recipe import Recipe
from hpo_service.service.studies.winner.rows import write_rows

TOOLS: dict[str, Tool] = {
    "trl": trl.TOOL,
    "axolotl": axolotl.TOOL,
    "llamafactory": llamafactory.TOOL,
    "peft": peft.TOOL,
    "script": script.TOOL,
}
"""By the name that `export --to` takes. A new one is a file beside this one and a row here."""
DATA = "data"


@dataclass(frozen=True)
class ExportedRecipe:
    """What was written for a tool.

    Attributes:
        folder: where.
        files: rows included.
        command: what starts the tool, from within the folder.
        left_out: what the tool has no counterpart for, a sentence each.
    """

    folder: Path
    files: list[Path]
    command: str
    left_out: list[str]


def export_recipe(
    recipe: Recipe, name: str, folder: Path, cache: Path, tell: Callable[[str], object] = lambda _: None
) -> ExportedRecipe:
    """Write a recipe and its rows for a tool into a folder, which is created; older files of these names are replaced.

    Args:
        recipe: what to write.
        name: of the tool.
        folder: where.
        cache: folder of what can be made again.
        tell: given each line about what is being done.

    Raises:
        UsageError: the tool cannot train the method, or read the rows.
        ConflictError: the folder holds something that this command has not written.
        TrialError, ChildError: the rows could not be written.
    """
    tool = TOOLS[name]
    require_method(
        name, tool, recipe, [other for other, each in TOOLS.items() if recipe.training.method in each.methods]
    )
    claim(folder, f"export --to {name}")
    rows = write_rows(recipe, folder.absolute() / DATA, cache, pairs=tool.pairs, ends=tool.ends, tell=tell)
    written = tool.translate(recipe, rows)
    if recipe.data.chat_template and rows.conversations and not tool.own_template:
        raise UsageError(
            f"{name} reads the model's own chat template, and study {recipe.study} has another, data.chat_template: "
            f"use --to {' or '.join(other for other, each in TOOLS.items() if each.own_template)}"
        )
    paths = [folder / file for file in written.files]
    for path, text in zip(paths, written.files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    data = [folder / DATA / f"{part}.jsonl" for part in ("train", "validation")]
    return ExportedRecipe(folder, [*paths, *data], written.command, written.left_out)
