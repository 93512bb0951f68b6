"""Rows from files, folders, the hub and the project itself; each fault is one line that names its place."""

import csv
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.errors import DataError
from hpo_service.training.data.reading.source import STDLIB_DOCSTRINGS, Place, places, read_rows

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c, d", "completion": "é\nf"}]


def read(source, *of_hub):
    return list(read_rows(Place(source, None, *of_hub)))


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
    rows = read(str(path))
    assert [row.fields for row in rows] == ROWS
    assert all(str(path) in row.origin for row in rows)


def test_a_folder_is_read_file_by_file_in_order_of_name(tmp_path):
    (tmp_path / "deep").mkdir()
    write_json(tmp_path / "b.json")
    write_jsonl(tmp_path / "a.jsonl")
    write_csv(tmp_path / "deep" / "c.csv")
    (tmp_path / "README.md").write_text("not data")
    rows = read(str(tmp_path))
    assert len(rows) == 6
    assert [row.origin.split(",")[0].rsplit("/", 1)[-1] for row in rows[::2]] == ["a.jsonl", "b.json", "c.csv"]


def test_the_standard_library_is_data_too(monkeypatch):
    monkeypatch.setattr("hpo_service.training.data.reading.source.library_pairs", lambda: ROWS)
    rows = read(STDLIB_DOCSTRINGS)
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
        read(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8_is_one_clear_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl cannot be read: 'utf-8' codec"):
        read(str(path))


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
        read(source)
    assert message in str(caught.value)


def test_a_folder_without_data_says_what_it_should_hold(tmp_path):
    with pytest.raises(DataError, match="holds no data file; files must end in"):
        read(str(tmp_path))


def test_a_hub_name_that_cannot_be_loaded_is_one_clear_line():
    with pytest.raises(DataError, match="data set nobody/nothing cannot be loaded") as caught:
        read("nobody/nothing")
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
    assert [row.fields for row in read("somebody/something")] == ROWS
    assert [row.fields["prompt"] for row in read("somebody/something", "french", "test")] == ["x"]
    assert asked == [("somebody/something", None, None), ("somebody/something", "french", "test")]


def test_a_hub_data_set_of_several_configurations_asks_for_one(monkeypatch):
    import datasets

    def load(name, subset, split):
        raise ValueError("Config name is missing.\nPlease pick one among: ['en', 'fr']")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"pick one among: \['en', 'fr'\]; name one of them as data\.subset$"):
        read("somebody/something")


def test_an_open_quote_is_named_with_the_line_where_its_row_begins(tmp_path):
    lines = ["prompt,completion", "a,b", 'inch,"5 inch', "c,d", "e,f"]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"rows\.csv, line 3: the row that begins here is not valid CSV"):
        read(str(path))
    # a later quote must not close it in silence
    path.write_text("\n".join([*lines, 'foot,"6 foot"']) + "\n")
    with pytest.raises(DataError, match=r"rows\.csv, line 3: the row that begins here is not valid CSV"):
        read(str(path))


def test_lines_are_counted_through_fields_of_several_lines(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('prompt,completion\na,"one\ntwo\nthree"\n\nb\n')
    with pytest.raises(DataError, match=r"row 2 does not have 2 fields as the header says \(line 6\)"):
        read(str(path))


@pytest.mark.parametrize(
    "text, message",
    [
        ("prompt,completion,completion\na,b,c\n", "line 1: the header names the column 'completion' twice"),
        ("prompt,completion\na,b\nprompt,completion\nc,d\n", "line 3 repeats the header"),
    ],
)
def test_a_column_or_header_that_stands_twice_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read(str(path))


def test_an_index_column_without_a_name_is_no_column_twice(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(",prompt,,completion\n0,a,x,b\n")
    assert read(str(path))[0].fields == {"": "x", "prompt": "a", "completion": "b"}


def test_a_name_that_stands_twice_in_an_object_or_a_table_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n{"completion": "good", "completion": "bad"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2 cannot be used: an object names 'completion' twice"):
        read(str(path))
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet has two columns named 'text'"):
        read(str(tmp_path / "rows.parquet"))


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_half_a_character_is_named_with_its_row(tmp_path, ending):
    rows = ['{"prompt": "whole \\ud83d\\ude00"}', '{"turns": [{"text": "half \\ud83d"}]}']
    path = tmp_path / f"rows{ending}"
    path.write_text("\n".join(rows) if ending == ".jsonl" else "[" + ",".join(rows) + "]")
    with pytest.raises(DataError, match=r"(line|row) 2 holds half a character \(\\ud83d without its other half\)"):
        read(str(path))


def test_json_lines_are_read_under_the_ending_of_json_too(tmp_path):
    path = tmp_path / "rows.json"
    write_jsonl(path)
    rows = read(str(path))
    assert [row.fields for row in rows] == ROWS
    assert rows[1].origin == f"{path}, line 2"
    path.write_text(path.read_text() + "{broken\n")
    with pytest.raises(DataError, match=r"rows\.json, line 4 is not valid JSON"):
        read(str(path))


def test_hidden_files_and_metadata_are_no_rows(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl")
    for name in (
        ".ipynb_checkpoints/rows-checkpoint.jsonl",
        "__MACOSX/rows.jsonl",
        "deep/.rows.jsonl.swp.jsonl",
        "dataset_infos.json",
        "deep/dataset_info.json",
        "state.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"default": {}}\n')
    for name in ("_SUCCESS", "README.md"):
        (tmp_path / name).write_text("not data")
    assert [row.fields for row in read(str(tmp_path))] == ROWS


def test_a_folder_below_a_hidden_one_is_read_when_it_is_named(tmp_path):
    folder = tmp_path / ".cache" / "mine"
    folder.mkdir(parents=True)
    write_jsonl(folder / "rows.jsonl")
    assert len(read(str(folder))) == 2


def saved(folder, rows, shards=1):
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(rows).save_to_disk(str(folder), num_shards=shards)


def test_a_saved_data_set_is_read_by_the_files_that_it_names(tmp_path):
    saved(tmp_path / "set", ROWS, shards=2)
    (tmp_path / "set" / "cache-0123.arrow").write_bytes((tmp_path / "set" / "data-00000-of-00002.arrow").read_bytes())
    assert [row.fields for row in read(str(tmp_path / "set"))] == ROWS
    (tmp_path / "set" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow is missing, though .*state\.json names it"):
        read(str(tmp_path / "set"))


@pytest.mark.parametrize("splits, expected", [(["test", "train"], "train"), (["one", "two"], "one")])
def test_of_several_saved_splits_the_training_rows_are_read(tmp_path, splits, expected):
    for name in splits:
        saved(tmp_path / name, [{"text": name}])
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    assert [row.fields["text"] for row in read(str(tmp_path))] == [expected]


def test_broken_metadata_leave_a_folder_of_files(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl")
    (tmp_path / "dataset_dict.json").write_text("{broken")
    assert len(read(str(tmp_path))) == 2


def test_arrow_files_of_other_tools_are_read_and_broken_ones_named(tmp_path):
    path = tmp_path / "rows.arrow"
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert [row.fields for row in read(str(path))] == ROWS
    path.write_bytes(b"no arrow at all")
    with pytest.raises(DataError, match=r"rows\.arrow is not a valid Arrow file"):
        read(str(path))


def test_fields_that_a_table_fills_in_to_make_turns_alike_are_left_out(tmp_path):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho", "weight": 0}]
    pq.write_table(pa.Table.from_pylist([{"messages": turns, "id": None}]), tmp_path / "rows.parquet")
    assert read(str(tmp_path / "rows.parquet"))[0].fields == {"messages": turns, "id": None}


def test_a_pattern_means_the_data_files_that_it_fits_in_the_order_of_their_names(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}) + "\n")
    (tmp_path / "a.txt").write_text("words")
    assert [row.fields["text"] for row in read(str(tmp_path / "*"))] == ["a", "b"]
    assert [row.fields["text"] for row in read(str(tmp_path / "[b].jsonl"))] == ["b"]


def test_a_pattern_that_fits_no_data_file_is_one_clear_line(tmp_path):
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(DataError, match=r"no data file fits .*\*\.jsonl"):
        read(str(tmp_path / "*.jsonl"))
    with pytest.raises(DataError, match=r"it fits a\.txt, and files must end in"):
        read(str(tmp_path / "*.txt"))


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    (tmp_path / "a[1].jsonl").write_text(json.dumps({"text": "a"}) + "\n")
    assert len(read(str(tmp_path / "a[1].jsonl"))) == 1


def test_held_out_rows_of_a_saved_data_set_are_its_split_of_that_name(tmp_path):
    splits = {name: datasets.Dataset.from_list([{"text": name}]) for name in ("train", "dev", "test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    source = str(tmp_path / "saved")
    spec = DataSpec(source=source, validation=source, test=[source])
    assert [next(iter(read_rows(place))).fields["text"] for place in places(spec)] == ["train", "dev", "test"]


def test_held_out_rows_of_a_hub_data_set_are_its_split_of_that_name(monkeypatch):
    given = datasets.DatasetDict(
        {name: datasets.Dataset.from_list([{"text": name}]) for name in ("train", "validation")}
    )
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name, subset, split: asked.append((name, subset)) or given)
    spec = DataSpec(source="org/set", validation="org/set", test="org/other", subset="en")
    assert [next(iter(read_rows(place))).fields["text"] for place in places(spec)] == ["train", "validation", "train"]
    assert asked == [("org/set", "en"), ("org/set", "en"), ("org/other", None)]
