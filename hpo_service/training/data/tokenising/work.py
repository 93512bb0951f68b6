"""What is done to batches of rows: they are understood and packed, then tokenised, in this process or another."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.training.data.formats import examples_of, read_beside, unused_columns
from hpo_service.training.data.reading.columns import named
from hpo_service.training.data.reading.example import Example
from hpo_service.training.data.reading.source import RawRow
from hpo_service.training.data.reading.weight import counts
from hpo_service.training.data.split import Keys, keys_of
from hpo_service.training.data.tokens import Tokenised, tokenise


@dataclass(frozen=True)
class PackedBatch:
    """Rows that were understood.

    Attributes:
        read: how many rows there were, those with the weight 0 among them.
        keys: of each row that counts, what the split goes by.
        packed: the same rows as bytes.
        unused: how many rows fill each column that is not read.
    """

    read: int
    keys: list[Keys] = field(default_factory=list)
    packed: list[bytes] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Work:
    """A study's way from rows to tokens; it goes to other processes as a whole."""

    spec: DataSpec
    format: str
    tokenizer: PreTrainedTokenizerBase

    def understand(self, raw: Sequence[RawRow]) -> PackedBatch:
        """Understand rows and find what the split goes by.

        Raises:
            DataError: a row does not fit.
        """
        rows = [named(row, self.spec) for row in raw if counts(row, self.spec.weight)]
        if not rows:
            return PackedBatch(len(raw))
        examples = examples_of(rows, self.format, self.spec)
        unused = unused_columns(rows, self.format, self.spec.group, read_beside(self.spec, examples))
        keys = [keys_of(example, self.spec.split.seed) for example in examples]
        packed = [pickle.dumps(example, pickle.HIGHEST_PROTOCOL) for example in examples]
        return PackedBatch(len(raw), keys, packed, Counter(unused))

    def tokenise(self, packed: Sequence[bytes]) -> Tokenised:
        """Tokenise rows that were packed; see `tokens.tokenise`.

        Raises:
            DataError: the chat template does not fit a row, or the tokenizer does not know an id.
        """
        examples = [unpacked(each) for each in packed]
        spec = self.spec
        return tokenise(examples, self.tokenizer, spec.max_length, spec.learn, chat_template=spec.chat_template)


def unpacked(packed: bytes) -> Example:
    """The row that `Work.understand` packed."""
    example = pickle.loads(packed)  # noqa: S301 - made by this process, or by its own workers, a moment ago
    assert isinstance(example, Example)
    return example
