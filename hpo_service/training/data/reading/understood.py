"""All rows of a study as examples of one format."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from hpo_service.domain.study.sections.data import DataSpec, HeldOut
from hpo_service.errors import DataError
from hpo_service.training.data.formats import counts, examples_of, format_of, read_beside, unused_columns
from hpo_service.training.data.reading.columns import named
from hpo_service.training.data.reading.example import Example
from hpo_service.training.data.reading.source import places, read_rows

# Rows understood at once, so that they are not held beside their examples.
BATCH = 1000


@dataclass
class Understood:
    """The rows of a study as examples.

    Attributes:
        examples: by the held-out part that they are for; under None those that are cut into parts.
        rows: how many were read, those with the weight 0 among them.
        format: their shape, told by the first.
        unused: how many rows fill each column that is not read.
    """

    examples: dict[HeldOut | None, list[Example]] = field(default_factory=dict)
    rows: int = 0
    format: str = ""
    unused: Counter[str] = field(default_factory=Counter)


def understand(spec: DataSpec) -> Understood:
    """Read the rows of a study and understand them in one format.

    Raises:
        DataError: they cannot be read, or a row does not fit; the message names file, row or column.
    """
    found = Understood()
    for place in places(spec):
        examples = found.examples.setdefault(place.part, [])
        before = len(examples)
        reading = read_rows(place)
        while raw := list(islice(reading, BATCH)):
            found.rows += len(raw)
            rows = [named(row, spec) for row in raw if counts(row)]
            if rows:
                found.format = found.format or format_of(rows[0], raw[0], spec)
                understood = examples_of(rows, found.format, spec)
                found.unused += Counter(unused_columns(rows, found.format, spec.group, read_beside(spec, understood)))
                examples += understood
        if len(examples) == before:
            raise DataError(f"{place.source}: every row has the weight 0, so there is nothing to learn")
    return found
