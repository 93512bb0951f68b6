"""What a client returns: documents as `/v1` answers them, which a notebook shows as small tables."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hpo_service.errors import UsageError

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN_ROWS = 20
"""Rows of a list that a notebook shows."""
SHOWN_CHARACTERS = 80
"""Of a value."""
NESTED = ("parameters", "facts", "metrics", "details")
"""Members that become columns of their own, as `parameters.learning_rate`."""


class Record(dict[str, Any]):
    """One document, a dictionary."""

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{_shown(name)}</th><td>{_shown(value)}</td></tr>" for name, value in self.items())
        return f"<table>{rows}</table>"


class Records(list[Record]):
    """Documents of one kind, a list."""

    def __init__(self, documents: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(Record(document) for document in documents)

    def frame(self) -> DataFrame:
        """Return them as a pandas frame, a row each; parameters, facts, metrics and details as columns of their own.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError:
            raise UsageError(
                "frames need pandas, which is not installed: `pip install 'hpo-service[client]'`"
            ) from None
        return DataFrame([_flat(record) for record in self])

    def _repr_html_(self) -> str:
        rows = [_flat(record) for record in self[:SHOWN_ROWS]]
        names = list(dict.fromkeys(name for row in rows for name in row))
        head = "".join(f"<th>{_shown(name)}</th>" for name in names)
        body = "".join("<tr>" + "".join(f"<td>{_shown(row.get(n))}</td>" for n in names) + "</tr>" for row in rows)
        more = f"<p>{len(self) - SHOWN_ROWS} more</p>" if len(self) > SHOWN_ROWS else ""
        return f"<table><tr>{head}</tr>{body}</table>{more}"


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in record.items():
        if name in NESTED and isinstance(value, Mapping):
            found |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            found[name] = value
    return found


def _shown(value: Any) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return html.escape(text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…")
