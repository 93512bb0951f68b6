"""Rows from files, folders, the hub and the project itself; each fault is one line that names its place."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpo_service.errors import DataError
from hpo_service.training.data.source import STDLIB_DOCSTRINGS, read_rows

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c, d", "completion": "é\nf"}]


def write_jsonl(path):
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")


def write_json(path):
    path.write_text(json.dumps(ROWS))


def write_csv(path):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(ROWS)


def write_parquet(path):
    pq.write_table(pa.Table.from_pylist(ROWS), path)


WRITERS = {".jsonl": write_jsonl, ".json": write_json, ".csv": write_csv, ".parquet": write_parquet}


@pytest.mark.parametrize("ending", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, ending):
    path = tmp_path / f"rows{ending}"
    WRITERS[ending](path)
    rows = read_rows(str(path))
    assert [row.fields for row in rows] == ROWS
    assert all(str(path) in row.origin for row in rows)


def test_a_folder_is_read_file_by_file_in_order_of_name(tmp_path):
    (tmp_path / "deep").mkdir()
    write_json(tmp_path / "b.json")
    write_jsonl(tmp_path / "a.jsonl")
    write_csv(tmp_path / "deep" / "c.csv")
    (tmp_path / "README.md").write_text("not data")
    rows = read_rows(str(tmp_path))
    assert len(rows) == 6
    assert [row.origin.split(",")[0].rsplit("/", 1)[-1] for row in rows[::2]] == ["a.jsonl", "b.json", "c.csv"]


def test_the_standard_library_is_data_too(monkeypatch):
    monkeypatch.setattr("hpo_service.training.data.source.docstring_pairs", lambda: ROWS)
    rows = read_rows(STDLIB_DOCSTRINGS)
    assert [row.fields for row in rows] == ROWS
    assert rows[1].origin == "builtin:stdlib-docstrings, row 2"


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.jsonl", '{"prompt": "a"}\n{"prompt"\n', "a.jsonl, line 2 is not valid JSON: Expecting ':'"),
        ("a.jsonl", '{"prompt": "a"}\n[1]\n', "a.jsonl, row 2 must be an object with named fields, not a list"),
        ("a.json", "[1, 2", "a.json is not valid JSON"),
        ("a.json", '{"prompt": "a"}', "a.json must hold a list of rows, not a dict"),
        ("a.json", "[null]", "a.json, row 1 must be an object with named fields, not null"),
        ("a.csv", "prompt,completion\na\n", "a.csv, row 1 does not have 2 fields as the header says"),
        ("a.csv", "prompt,completion\na,b,c\n", "a.csv, row 1 does not have 2 fields as the header says"),
        ("a.parquet", "no parquet", "a.parquet is not a valid Parquet file"),
        ("a.txt", "words", "a.txt has no known ending; files must end in .jsonl, .json, .csv, .parquet"),
        ("a.jsonl", "\n", "a.jsonl holds no rows"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_rows(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8_is_one_clear_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl cannot be read: 'utf-8' codec"):
        read_rows(str(path))


@pytest.mark.parametrize(
    "source, message",
    [
        ("missing.jsonl", "missing.jsonl does not exist (looked in "),
        ("/nowhere/at/all", "/nowhere/at/all does not exist"),
        ("builtin:poems", "there is no builtin data builtin:poems; the builtin data is builtin:stdlib-docstrings"),
    ],
)
def test_a_source_that_is_not_there_is_one_clear_line(source, message):
    with pytest.raises(DataError) as caught:
        read_rows(source)
    assert message in str(caught.value)


def test_a_folder_without_data_says_what_it_should_hold(tmp_path):
    with pytest.raises(DataError, match="holds no data file; files must end in"):
        read_rows(str(tmp_path))


def test_a_hub_name_that_cannot_be_loaded_is_one_clear_line():
    with pytest.raises(DataError, match="data set nobody/nothing cannot be loaded") as caught:
        read_rows("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_hub_data_set_gives_its_train_split(monkeypatch):
    import datasets

    loaded = datasets.DatasetDict(
        {
            "test": datasets.Dataset.from_list([{"prompt": "x", "completion": "y"}]),
            "train": datasets.Dataset.from_list(ROWS),
        }
    )
    asked = []

    def load(name, subset, split):
        asked.append((name, subset, split))
        return loaded[split] if split else loaded

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert [row.fields for row in read_rows("somebody/something")] == ROWS
    assert [row.fields["prompt"] for row in read_rows("somebody/something", "french", "test")] == ["x"]
    assert asked == [("somebody/something", None, None), ("somebody/something", "french", "test")]


def test_a_hub_data_set_of_several_configurations_asks_for_one(monkeypatch):
    import datasets

    def load(name, subset, split):
        raise ValueError("Config name is missing.\nPlease pick one among: ['en', 'fr']")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"pick one among: \['en', 'fr'\]; name one of them as data\.subset$"):
        read_rows("somebody/something")
