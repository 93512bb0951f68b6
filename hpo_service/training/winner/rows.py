"""A study's rows as other tools read them: `python -m hpo_service.training.winner.rows` answers one request.

It reads `{"data", "model", "name", "cache", "folder", "pairs", "ends"}` and writes `train.jsonl` and
`validation.jsonl` into the folder: the study's own parts, in the shape that TRL, Axolotl and LLaMA-Factory have in
common. The test rows stay out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpo_service.domain.study.sections.data import DataSpec, HeldOut
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.errors import DataError
from hpo_service.training.data.conversation import ASSISTANT
from hpo_service.training.data.formats import examples_of
from hpo_service.training.data.reading.columns import named
from hpo_service.training.data.reading.example import Example
from hpo_service.training.data.reading.source import places, read_rows
from hpo_service.training.data.reading.weight import counts
from hpo_service.training.data.split import Split, split_examples
from hpo_service.training.data.tokenising.packed_rows import format_of_rows
from hpo_service.training.winner.answering import answer_with, tell

Row = dict[str, Any]


def write_rows(request: dict[str, Any]) -> dict[str, Any]:
    """Write the rows of a request, and say how many there are, in which shape, and where the model lies.

    Raises:
        DataError, ModelError: the rows, the model or its tokenizer cannot be used.
    """
    from hpo_service.training.builtin.family import resolve_model
    from hpo_service.training.models.tokenizer import load_tokenizer

    spec, model = DataSpec.model_validate(request["data"]), ModelSpec.model_validate(request["model"])
    name, folder = request["name"], Path(request["folder"])
    split = _split(spec)
    path = resolve_model(name, Path(request["cache"]), tell)
    tokenizer = load_tokenizer(name, path, model.trust_remote_code, model.revision_of(name))
    shape, written, lost = shaped(split, pairs=bool(request.get("pairs")))
    if request.get("ends") and shape == "prompt-completion":
        for row in (each for rows in written.values() for each in rows):
            row["completion"] += tokenizer.eos_token or ""
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in written.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{part}.jsonl").write_text(text, encoding="utf-8")
    return {
        "shape": shape,
        "train": len(written["train"]),
        "validation": len(written["validation"]),
        "model": path,
        "end": tokenizer.eos_token or "",
        "template": bool(spec.chat_template or tokenizer.chat_template),
        "unlearned_turns": lost,
    }


def _split(spec: DataSpec) -> Split[Example]:
    shape, read = format_of_rows(spec), dict[HeldOut | None, list[Example]]()
    for place in places(spec):
        rows = [named(row, spec) for row in read_rows(place) if counts(row, spec.weight)]
        if not rows:
            raise DataError(f"{place.source}: every row has the weight 0, so there is nothing to learn")
        read.setdefault(place.part, []).extend(examples_of(rows, shape, spec))
    own = {part: examples for part, examples in read.items() if part is not None}
    return split_examples(read.get(None, []), spec.split, spec.max_rows, own)


def shaped(split: Split[Example], *, pairs: bool = False) -> tuple[str, dict[str, list[Row]], int]:
    """Return the shape that all rows have, the rows of each part, and how many turns of the assistant are not learned.

    With `pairs` conversations in which only the last turn is learned become prompt and completion, both lists of
    turns: TRL then needs no marks in the chat template.
    """
    parts = {"train": split.train, "validation": split.validation}
    examples = [example for part in parts.values() for example in part]
    shape = _shape(examples)
    lost = sum(len(example.unlearned) for example in examples)
    named = "pairs" if pairs and shape == "answers" else shape
    return (
        shape,
        {name: [_row(example, named, marked=lost > 0) for example in part] for name, part in parts.items()},
        lost,
    )


def _shape(examples: Sequence[Example]) -> str:
    if any(example.ids for example in examples):
        return "tokenised"
    if any(example.messages for example in examples):
        return "answers" if all(map(_answers_once, examples)) else "messages"
    return "prompt-completion" if any(example.prompt for example in examples) else "text"


def _answers_once(example: Example) -> bool:
    learned = [
        place
        for place, message in enumerate(example.messages)
        if message["role"] == ASSISTANT and place not in example.unlearned
    ]
    return learned == [len(example.messages) - 1] and len(example.messages) > 1


def _row(example: Example, shape: str, *, marked: bool) -> Row:
    tools = {"tools": list(example.tools)} if example.tools else {}
    turns = [dict(message) for message in example.messages]
    if shape == "tokenised":
        ids = list(example.ids)
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": list(example.labels) or ids}
    if shape == "pairs":
        return {"prompt": turns[:-1], "completion": turns[-1:], **tools}
    if shape in ("messages", "answers"):
        if marked:
            turns = [{**turn, "train": place not in example.unlearned} for place, turn in enumerate(turns)]
        return {"messages": turns, **tools}
    if shape == "text":
        return {"text": example.completion}
    return {"prompt": example.prompt, "completion": example.completion}


if __name__ == "__main__":
    sys.exit(answer_with(write_rows))
