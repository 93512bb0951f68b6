"""Where raw rows come from: local files and folders, hub data sets, and the data the project makes itself."""

from __future__ import annotations

import csv
import glob
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_service.domain.study.sections.data import DataSpec, HeldOut
from hpo_service.domain.study.sources import BUILTIN, BUILTIN_DATA, DataFile, is_pattern, looks_local
from hpo_service.errors import DataError
from hpo_service.training.builtin.corpus import library_pairs
from hpo_service.training.data.reading.files import chosen_split, data_files

if TYPE_CHECKING:
    from datasets import Dataset

(STDLIB_DOCSTRINGS,) = BUILTIN_DATA


@dataclass(frozen=True)
class RawRow:
    """One row as it was found.

    Attributes:
        origin: file and row, for people.
        fields: what it holds, by column.
        fault: why it cannot be read, or nothing.
        names: what the row's file calls a column, where that is another name than the one in `fields`.
        part: the held-out part that it is for; None where rows are cut into parts.
    """

    origin: str
    fields: dict[str, Any]
    fault: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    part: HeldOut | None = None

    def called(self, column: str) -> str:
        """A column as people know it: quoted, under the name that it has in its file."""
        return repr(self.names.get(column, column))


@dataclass(frozen=True)
class Place:
    """One of the names that a study's rows are read from.

    Attributes:
        source: the name.
        part: the held-out part that its rows are for; None where they are cut into parts.
        subset: configuration of a hub data set.
        split: split of a hub data set.
    """

    source: str
    part: HeldOut | None = None
    subset: str | None = None
    split: str | None = None


def places(spec: DataSpec) -> list[Place]:
    """All that a study's rows are read from, in order: what is cut into parts, then what is held out as it is."""
    cut = [Place(source, None, spec.subset, spec.hub_split) for source in spec.sources]
    # a configuration is the data set's own; which split is held out follows from the part
    own = {
        part: [(source, spec.subset if source in spec.sources else None) for source in given]
        for part, given in spec.held_out.items()
    }
    return [*cut, *(Place(source, part, subset) for part, given in own.items() for source, subset in given)]


def local_files(source: str, part: str | None = None) -> list[Path] | None:
    """The data files that a source means, in the order in which they are read; None where it is not local.

    Args:
        source: a file, a folder, or a pattern of files.
        part: the held-out part that its rows are for; of a saved data set with splits it is the one called so.

    Raises:
        DataError: a path that is written like one does not exist, or its folder holds no data file.
    """
    if source.startswith(BUILTIN):
        return None
    path = Path(source).expanduser()
    if path.is_dir():
        files = data_files(path, READERS, part)
        if not files:
            raise DataError(f"{path} holds no data file; files must end in {', '.join(READERS)}")
        return files
    if path.is_file():
        return [path]
    if is_pattern(source):
        return _fitting(path)
    if looks_local(source):
        raise DataError(f"{source} does not exist (looked in {Path.cwd()})")
    return None


def _fitting(pattern: Path) -> list[Path]:
    """The data files that a pattern fits; folders that it fits are not looked into."""
    found = [Path(each) for each in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207
    files = [each for each in found if each.is_file() and each.suffix in READERS]
    if not files:
        others = f"; it fits {found[0].name}, and files must end in {', '.join(READERS)}" if found else ""
        raise DataError(f"no data file fits {pattern} (looked in {Path.cwd()}){others}")
    return files


def load_from_hub(place: Place) -> Dataset:
    """A hub data set, or the copy of it that this machine keeps; its split as named, or as `chosen_split` gives.

    Raises:
        DataError: there is none, it is out of reach, or it has no such configuration or split.
    """
    from datasets import DatasetDict, load_dataset

    try:
        loaded = load_dataset(place.source, place.subset, split=place.split)
    # The library raises many unrelated types for a name that is wrong, private, or out of reach.
    except Exception as error:
        reason = " ".join(str(error).split())
        remedy = "; name one of them as data.subset" if "Config name is missing" in reason else ""
        raise DataError(
            f"data set {place.source} cannot be loaded, neither locally nor from the hub: {reason}{remedy}"
        ) from error
    if isinstance(loaded, DatasetDict):
        loaded = loaded[chosen_split(list(loaded), place.part)]
    return loaded


def read_rows(source: str | Place) -> Iterator[RawRow]:
    """Every row of a local file, a folder or pattern of files, a hub data set or builtin data.

    Raises:
        DataError: the source is missing, unreadable or empty, or a row cannot be read; the message names it.
    """
    place = Place(source) if isinstance(source, str) else source
    is_empty = True
    for row in found_rows(place):
        if row.fault:
            raise DataError(row.fault)
        is_empty = False
        yield row
    if is_empty:
        raise DataError(f"{place.source} holds no rows")


def found_rows(place: Place) -> Iterator[RawRow]:
    """The rows of a source one after the other, those that cannot be read among them; see `read_rows`."""
    rows = _found_rows(place)
    yield from rows if place.part is None else (replace(row, part=place.part) for row in rows)


def _found_rows(place: Place) -> Iterator[RawRow]:
    source = place.source
    if source == STDLIB_DOCSTRINGS:
        yield from _numbered(source, iter(library_pairs()))
        return
    if source.startswith(BUILTIN):
        raise DataError(f"there is no builtin data {source}; the builtin data is {STDLIB_DOCSTRINGS}")
    files = local_files(source, place.part)
    if files is None:
        yield from _numbered(source, map(without_fillers, load_from_hub(place)))
        return
    for path in files:
        yield from _read_file(path)


def _read_file(path: Path) -> Iterator[RawRow]:
    reader = READERS.get(path.suffix)
    if reader is None:
        raise DataError(f"{path} has no known ending; files must end in {', '.join(READERS)}")
    try:
        yield from reader(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    with path.open(encoding="utf-8-sig") as stream:
        yield from _lines(path, stream)


def _read_json(path: Path) -> Iterator[RawRow]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        content = _parsed(text, str(path))
    except DataError:
        # many tools give JSON lines the ending of JSON
        if not _is_object(text.lstrip().partition("\n")[0]):
            raise
        yield from _lines(path, text.splitlines(keepends=True))
        return
    if not isinstance(content, list):
        raise DataError(f"{path} must hold a list of rows, not {_kind(content)}")
    for number, row in enumerate(content, start=1):
        yield _row(row, f"{path}, row {number}", f"{path}, row {number}")


def _lines(path: Path, lines: Iterable[str]) -> Iterator[RawRow]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        origin = f"{path}, line {number}"
        try:
            row = _parsed(line, origin)
        except DataError as error:
            yield RawRow(origin, {}, str(error))
        else:
            yield _row(row, origin, f"{path}, row {number}")


def _read_csv(path: Path) -> Iterator[RawRow]:
    # Long texts are ordinary here; the module's own limit is 128 KiB a field.
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        # strict, so that a quote that opens and is not closed cannot swallow the lines after it
        reader = csv.reader(stream, strict=True)
        line, number = 1, 0
        try:
            header = next(reader, [])
            _check_header(path, header)
            line = reader.line_num + 1
            for fields in reader:
                if fields:
                    number += 1
                    yield _csv_row(path, number, line, header, fields)
                line = reader.line_num + 1
        except csv.Error as error:
            remedy = 'a quote inside a field is written twice, and the field between quotes: "a 5"" pipe"'
            fault = f"{path}, line {line}: the row that begins here is not valid CSV ({error}); {remedy}"
            yield RawRow(f"{path}, line {line}", {}, fault)


def _check_header(path: Path, header: list[str]) -> None:
    twice = next((name for place, name in enumerate(header) if name and name in header[:place]), None)
    if twice is not None:
        raise DataError(f"{path}, line 1: the header names the column {twice!r} twice; rename or remove one")


def _csv_row(path: Path, number: int, line: int, header: list[str], fields: list[str]) -> RawRow:
    origin = f"{path}, row {number}"
    if len(fields) != len(header):
        fault = f"{origin} does not have {len(header)} fields as the header says (line {line})"
        return RawRow(origin, {}, fault)
    if fields == header:
        return RawRow(origin, {}, f"{path}, line {line} repeats the header: remove it, or split the file there")
    return RawRow(origin, dict(zip(header, fields, strict=True)))


def _read_parquet(path: Path) -> Iterator[RawRow]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
        yield from _tables(path, file.schema_arrow.names, file.iter_batches())
    except ArrowException as error:
        raise DataError(f"{path} is not a valid Parquet file: {' '.join(str(error).split())}") from error


def _read_arrow(path: Path) -> Iterator[RawRow]:
    """Read what `datasets` saves (a stream) or what other tools write (a file of record batches)."""
    from pyarrow import ArrowException, ArrowInvalid, ipc, memory_map

    try:
        with memory_map(str(path)) as found:
            try:
                opened = ipc.open_stream(found)
                batches: Iterable[Any] = opened
            except ArrowInvalid:
                opened = ipc.open_file(found)
                batches = map(opened.get_batch, range(opened.num_record_batches))
            yield from _tables(path, opened.schema.names, batches)
    except ArrowException as error:
        raise DataError(f"{path} is not a valid Arrow file: {' '.join(str(error).split())}") from error


def _tables(path: Path, columns: list[str], batches: Iterable[Any]) -> Iterator[RawRow]:
    twice = next((name for place, name in enumerate(columns) if name in columns[:place]), None)
    if twice is not None:
        raise DataError(f"{path} has two columns named {twice!r}; rename or remove one")
    yield from _numbered(str(path), (without_fillers(row) for batch in batches for row in batch.to_pylist()))


def without_fillers(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table without the empty fields inside its lists, which tables fill in to make their items alike."""
    return {name: _without_nulls(value) if isinstance(value, list) else value for name, value in row.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    DataFile.JSONL: _read_jsonl,
    DataFile.JSON: _read_json,
    DataFile.CSV: _read_csv,
    DataFile.PARQUET: _read_parquet,
    DataFile.ARROW: _read_arrow,
}
"""How each kind of file is read; plain endings find their row too."""


def _numbered(origin: str, rows: Iterator[dict[str, Any]]) -> Iterator[RawRow]:
    for number, fields in enumerate(rows, start=1):
        yield RawRow(f"{origin}, row {number}", fields)


def _parsed(text: str, origin: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_named_once)
    except json.JSONDecodeError as error:
        raise DataError(f"{origin} is not valid JSON: {error.msg} at column {error.colno}") from error
    # a ValueError: a whole number of thousands of digits
    except (_NamedTwiceError, ValueError, RecursionError) as error:
        raise DataError(f"{origin} cannot be used: {error}") from error


class _NamedTwiceError(Exception):
    """An object gives one name two values, of which a reader would keep either."""


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise _NamedTwiceError(f"an object names {twice!r} twice; rename or remove one")
    return fields


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _row(row: Any, origin: str, place: str) -> RawRow:
    """A row of JSON; half of a character that takes two (a lone surrogate) is no text that could be tokenised."""
    if not isinstance(row, dict):
        return RawRow(origin, {}, f"{place} must be an object with named fields, not {_kind(row)}")
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        return RawRow(origin, {}, f"{origin} holds half a character ({half} without its other half): mend or remove it")
    return RawRow(origin, row)


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
