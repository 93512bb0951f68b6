"""A first look at a study's rows, tokenizer and configurations: all that is wrong with them, told within seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedTokenizerBase

from hpo_service.domain.study.finding import Finding, Level, Subject, not_here
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sources import BUILTIN, BUILTIN_MODELS, BUILTIN_TOKENIZERS, looks_local
from hpo_service.errors import DataError, ModelError
from hpo_service.training.data.formats import examples_of, format_of, read_beside, unused_columns
from hpo_service.training.data.reading.columns import named
from hpo_service.training.data.reading.example import Example
from hpo_service.training.data.reading.files import doubts
from hpo_service.training.data.reading.source import Place, RawRow, found_rows, local_files, places
from hpo_service.training.data.reading.weight import counts
from hpo_service.training.data.rows import understanding
from hpo_service.training.data.tokens import IGNORED, Tokenised, tokenise
from hpo_service.training.models.tokenizer import load_tokenizer

ROWS = 200
REASON_CHARS = 300
FEWEST_PROMPT = 2
"""Tokens of a prompt: the first may be the mark of a beginning."""


def first_look(
    data: DataSpec,
    model: ModelSpec,
    rows: int = ROWS,
    from_scratch: bool = False,
    *,
    before: int = 0,
    asks: bool = False,
    tells_of_configurations: bool = True,
) -> list[Finding]:
    """Look at the first rows of each file, the tokenizer and the models' configurations, and tell all that is wrong.

    Args:
        data: where the rows are.
        model: what they are for.
        rows: how many are looked at, over all files.
        from_scratch: whether a trial builds its own model, so that `model.base` is only a tokenizer.
        before: tokens that every trial's method puts before each row.
        asks: whether trials are judged by their answers to the rows' prompts.
        tells_of_configurations: whether it tells of configurations that cannot be used.
    """
    found = Findings()
    of_configurations = found if tells_of_configurations else Findings()
    config = None if from_scratch else _config(model.base, model, of_configurations)
    if model.target and not from_scratch and tells_of_configurations:
        _config(model.target, model, found)
    tokenizer = _tokenizer(model, found)
    raw = _first_rows(data, rows, found)
    if raw:
        tokenised = _look_at_rows(raw, data, model, tokenizer, config, before, found)
        if asks and tokenised:
            _check_prompts(tokenised, data, found)
    elif not any(each.subject == "data" for each in found.listed):
        found.note("error", "data", f"{data.called} holds no rows")
    return found.listed


@dataclass
class Findings:
    """Collects what is found: of a fault that many rows share, the first row and how many they are."""

    _found: dict[tuple[Level, str], Finding] = field(default_factory=dict)

    @property
    def listed(self) -> list[Finding]:
        """Errors first, otherwise in the order in which they were met."""
        return sorted(self._found.values(), key=lambda each: each.level != "error")

    def note(self, level: Level, subject: Subject, what: str, where: str = "") -> None:
        """Add a finding, or count a row more of one that is known."""
        what = " ".join(what.removeprefix(where).lstrip(":, ").split())
        # of rows the same fault differs in its numbers: of lines, turns and fields
        key = re.sub(r"\d+", "0", what) if where else what
        known = self._found.get((level, key), Finding(level=level, subject=subject, what=what, where=where, rows=0))
        self._found[level, key] = known.model_copy(update={"rows": known.rows + 1})

    def add(self, finding: Finding) -> None:
        """Add a finding as it is."""
        self._found.setdefault((finding.level, finding.what), finding)

    @contextmanager
    def noted(self, where: str = "") -> Iterator[None]:
        """Make a finding of an error in the data, and go on behind the block."""
        try:
            yield
        except DataError as error:
            self.note("error", "data", str(error), where)


def _first_rows(data: DataSpec, limit: int, found: Findings) -> list[RawRow]:
    """The first rows of every file, or of a data set, that can be read."""
    of_files: list[Place] = []
    for place in places(data):
        with found.noted():
            files = local_files(place.source, place.part)
            folder = Path(place.source).expanduser()
            for doubt in doubts(folder, files) if files and folder.is_dir() and not data.held_out else ():
                found.note("warning", "data", doubt)
            of_files += [place] if files is None else [replace(place, source=str(path)) for path in files]
    rows: list[RawRow] = []
    for place in of_files:
        try:
            for row in islice(found_rows(place), max(1, limit // len(of_files))):
                if row.fault:
                    found.note("error", "data", row.fault, row.origin)
                else:
                    rows.append(row)
        except DataError as error:
            if local_files(place.source) is None and not place.source.startswith(BUILTIN):
                found.add(not_here("data", place.source))
            else:
                found.note("error", "data", str(error))
    return rows


def _look_at_rows(
    raw: list[RawRow],
    data: DataSpec,
    model: ModelSpec,
    tokenizer: PreTrainedTokenizerBase | None,
    config: Any,
    before: int,
    found: Findings,
) -> list[Tokenised]:
    rows: list[RawRow] = []
    for row in raw:
        with found.noted(row.origin):
            rows.append(named(row, data))
    shape = _format(rows[0], raw[0], data, found) if rows else None
    if shape is None:
        return []
    examples: list[Example] = []
    for row in rows:
        with found.noted(row.origin):
            examples += examples_of([row], shape, data) if counts(row, data.weight) else []
    tokenised = _tokenised(examples, tokenizer, data, found) if tokenizer is not None else []
    unused = unused_columns(rows, shape, data.group, read_beside(data, examples))
    # that rows do without the chat template is a choice, which the report tells and which stops no study that is right
    found_in_them = understanding(tokenised, unused).model_copy(update={"rows_plain": 0})
    for warning in found_in_them.warnings(shape, data.learn):
        found.note("warning", "data", warning)
    # a builtin model's tokenizer is not made yet: lengths and ids are those of bytes
    if tokenised and not model.base.startswith(BUILTIN):
        _check_fit(tokenised, data, model.base, config, before, found)
    return tokenised


def _format(row: RawRow, as_read: RawRow, data: DataSpec, found: Findings) -> str | None:
    try:
        return format_of(row, as_read, data)
    except DataError as error:
        found.note("error", "data", str(error), row.origin)
        return None


def _tokenised(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, data: DataSpec, found: Findings
) -> list[Tokenised]:
    """Each example by itself, so that one that cannot be tokenised does not hide the faults of others."""
    rows: list[Tokenised] = []
    for example in examples:
        with found.noted(example.origin):
            rows.append(tokenise([example], tokenizer, data.max_length, data.learn, chat_template=data.chat_template))
    return rows


def _check_fit(
    tokenised: Sequence[Tokenised], data: DataSpec, name: str, config: Any, before: int, found: Findings
) -> None:
    """Refuse ids and lengths that the model has no place for, and warn where the cut leaves nothing to learn."""
    lost = sum(each.unsupervised for each in tokenised)
    if lost * 2 > len(tokenised):
        remedy = f"within data.max_length = {data.max_length} tokens: raise it, or shorten the prompts"
        found.note("warning", "data", f"{lost} of the first {len(tokenised)} rows have nothing to learn {remedy}")
    rows = [row for each in tokenised for row in each.rows]
    if config is None or not rows:
        return
    largest, longest = max(int(row.ids.max()) for row in rows), max(len(row.ids) for row in rows)
    if largest >= config.vocab_size:
        found.note("error", "model", f"model {name} knows no token {largest}: its tokenizer belongs to another")
    positions = getattr(config, "max_position_embeddings", None)
    if positions and longest + before > positions:
        behind = f" behind a prefix of {before}" if before else ""
        what = f"rows of up to {longest} tokens{behind} do not fit the {positions} positions of model {name}"
        found.note("error", "model", f"{what}: set data.max_length to {max(1, positions - before)} or less")


def _check_prompts(tokenised: Sequence[Tokenised], data: DataSpec, found: Findings) -> None:
    """Refuse rows that are learned from their first words on: there is nothing to ask with."""
    rows = [row for each in tokenised for row in each.rows]
    if rows and all(int((row.labels != IGNORED).argmax()) < FEWEST_PROMPT for row in rows):
        remedy = "give rows with prompts, or drop evaluation.select"
        reason = "its rows have no prompts to answer, and trials are judged by their answers"
        found.note("error", "data", f"{data.called}: {reason}; {remedy}")


def _config(name: str, model: ModelSpec, found: Findings) -> Any:
    """The configuration of a model; None where it cannot be had."""
    if name.startswith(BUILTIN):
        if name not in BUILTIN_MODELS:
            known = ", ".join(BUILTIN_MODELS)
            found.note("error", "model", f"there is no builtin model {name}; the builtin models are {known}")
        return None
    try:
        whole = AutoConfig.from_pretrained(
            name, trust_remote_code=model.trust_remote_code, revision=model.revision_of(name)
        )
        return whole.get_text_config()
    # wrong names, no network and broken files come as many types
    except Exception as error:
        _note_unusable(found, "model", name, f"model {name} has no usable configuration: {error}")
        return None


def _tokenizer(model: ModelSpec, found: Findings) -> PreTrainedTokenizerBase | None:
    if model.base.startswith(BUILTIN):
        # seconds of imports that other models need not wait for
        from hpo_service.training.builtin.family import byte_tokenizer

        return byte_tokenizer() if model.base in BUILTIN_MODELS + BUILTIN_TOKENIZERS else None
    try:
        return load_tokenizer(model.base, model.base, model.trust_remote_code, model.revision_of(model.base))
    except ModelError as error:
        _note_unusable(found, "tokenizer", model.base, str(error))
        return None


def _note_unusable(found: Findings, subject: Subject, name: str, reason: str) -> None:
    """What is local and cannot be used is an error; what is not on this machine a trial may still find."""
    if Path(name).expanduser().exists():
        found.note("error", subject, reason[:REASON_CHARS])
    elif looks_local(name):
        found.note("error", "model", f"model {name} does not exist (looked in {Path.cwd()})")
    else:
        found.add(not_here(subject, name))
