"""Tokenised rows are made once on a node, shared, checked, and made again when anything they follow from changes."""

import logging
import multiprocessing
import threading

import pytest

from hpo_service.domain.study.sections.data import DataSpec, SplitSpec
from hpo_service.errors import DataError
from hpo_service.training.data import row_cache
from hpo_service.training.data.fingerprint import content_digest
from hpo_service.training.data.row_cache import RowCache
from hpo_service.training.data.rows import prepare_rows
from hpo_service.training.files.node_cache import locked
from tests.training.tiny import byte_tokenizer, pairs, write_rows


@pytest.fixture
def made(monkeypatch):
    """The specs for which rows were made rather than read."""
    made = []
    monkeypatch.setattr(row_cache, "prepare_rows", lambda spec, *rest: made.append(spec) or prepare_rows(spec, *rest))
    return made


@pytest.fixture
def spec(tmp_path):
    return DataSpec(source=write_rows(tmp_path / "rows.jsonl", pairs(60)))


def contents(rows):
    return [
        [(row.ids.tolist(), row.labels.tolist()) for row in part] for part in (rows.train, rows.validation, rows.test)
    ]


def get(folder, spec, tokenizer_hash="a tokenizer"):
    return RowCache(folder / "rows").rows(spec, byte_tokenizer(), tokenizer_hash)


def test_a_second_process_reads_what_the_first_made(tmp_path, spec, made):
    one, two = get(tmp_path, spec), get(tmp_path, spec)
    assert len(made) == 1
    assert contents(one) == contents(two) == contents(prepare_rows(spec, byte_tokenizer()))
    assert one.facts == two.facts
    assert one.fingerprint == two.fingerprint


def test_a_process_holds_its_rows(tmp_path, spec):
    cache = RowCache(tmp_path / "rows")
    assert cache.rows(spec, byte_tokenizer(), "a") is cache.rows(spec, byte_tokenizer(), "a")
    assert cache.rows(spec, byte_tokenizer(), "a") is not cache.rows(spec, byte_tokenizer(), "b")


def test_rows_are_read_from_disk_a_page_at_a_time(tmp_path, spec):
    array = get(tmp_path, spec).train.ids
    assert not array.flags.owndata
    assert array.flags.writeable


@pytest.mark.parametrize(
    "change",
    [
        {"max_length": 16},
        {"learn": "all"},
        {"split": SplitSpec(seed=1)},
        {"max_rows": 40},
        {"format": "text", "source": "other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_the_rows_is_part_of_their_key(tmp_path, spec, made, change):
    get(tmp_path, spec)
    if "source" in change:
        change["source"] = write_rows(tmp_path / "other.jsonl", [{"text": f"row {i}"} for i in range(60)])
    get(tmp_path, spec.model_copy(update=change))
    get(tmp_path, spec, "another tokenizer")
    assert len(made) == 3


def test_what_only_lays_rows_out_is_no_part_of_their_key(tmp_path, spec, made):
    get(tmp_path, spec)
    get(tmp_path, spec.model_copy(update={"pack_rows": True}))
    assert len(made) == 1


def test_a_local_file_that_changed_is_read_again_by_a_process_that_holds_it(tmp_path, spec, made):
    cache = RowCache(tmp_path / "rows")
    before = cache.rows(spec, byte_tokenizer(), "a")
    write_rows(tmp_path / "rows.jsonl", pairs(70))
    after = cache.rows(spec, byte_tokenizer(), "a")
    assert after.fingerprint != before.fingerprint
    write_rows(tmp_path / "rows.jsonl", pairs(60))
    assert cache.rows(spec, byte_tokenizer(), "a").fingerprint == before.fingerprint
    assert len(made) == 2


def test_equal_files_elsewhere_share_rows_under_their_own_name(tmp_path, spec, made):
    get(tmp_path, spec)
    copy = spec.model_copy(update={"source": write_rows(tmp_path / "copy.jsonl", pairs(60))})
    report = get(tmp_path, copy).report
    assert len(made) == 1
    assert report.source == copy.source
    assert report.longest_row.startswith(f"{copy.source}, line ")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "train-ids.npy").write_bytes((folder / "train-ids.npy").read_bytes()[:-9]),
        lambda folder: (folder / "train-labels.npy").write_bytes(
            (folder / "train-labels.npy").read_bytes()[:-1] + b"\7"
        ),
        lambda folder: (folder / "test-bounds.npy").write_bytes(b""),
        lambda folder: (folder / "validation-ids.npy").unlink(),
        lambda folder: (folder / "report.json").write_text("{}"),
    ],
    ids=["cut", "flipped", "empty", "missing", "report"],
)
def test_damaged_rows_are_made_again_with_a_warning(tmp_path, spec, made, caplog, damage):
    whole = contents(get(tmp_path, spec))
    (folder,) = (each for each in (tmp_path / "rows").iterdir() if each.is_dir())
    damage(folder)
    with caplog.at_level(logging.WARNING):
        assert contents(get(tmp_path, spec)) == whole
    assert len(made) == 2
    assert f"tokenised rows in {folder} are damaged" in caplog.text
    caplog.clear()
    assert contents(get(tmp_path, spec)) == whole
    assert len(made) == 2
    assert not caplog.text


def test_a_full_disk_costs_the_sharing_and_not_the_trial(tmp_path, spec, made, caplog, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(row_cache.np, "save", full)
    rows = get(tmp_path, spec)
    assert contents(rows) == contents(prepare_rows(spec, byte_tokenizer()))
    assert len(made) == 1
    assert "cannot be used: [Errno 28] No space left on device" in caplog.text
    assert [each.suffix for each in (tmp_path / "rows").iterdir()] == [".lock"]


def test_a_cache_that_is_no_folder_costs_the_sharing_and_not_the_trial(tmp_path, spec, caplog):
    (tmp_path / "rows").write_text("not a folder")
    assert contents(get(tmp_path, spec)) == contents(prepare_rows(spec, byte_tokenizer()))
    assert "tokenised rows are made in memory" in caplog.text


def test_data_that_cannot_be_used_leave_nothing_behind(tmp_path, spec):
    with (tmp_path / "rows.jsonl").open("a") as stream:
        stream.write('{"prompt": \n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 61 is not valid JSON"):
        get(tmp_path, spec)
    assert [each.suffix for each in (tmp_path / "rows").iterdir()] == [".lock"]


def _rows_of(folder, spec, start, answers):
    start.wait()
    made = []
    row_cache.prepare_rows = lambda spec, *rest: made.append(spec) or prepare_rows(spec, *rest)
    answers.put((len(made), get(folder, spec).fingerprint, len(made)))


def test_processes_that_ask_at_once_make_rows_once(tmp_path, spec):
    fork = multiprocessing.get_context("fork")
    answers, start = fork.Queue(), fork.Event()
    processes = [fork.Process(target=_rows_of, args=(tmp_path, spec, start, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    told = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert len({fingerprint for _, fingerprint, _ in told}) == 1
    assert sum(made for _, _, made in told) == 1


def test_one_that_waits_says_so(tmp_path, spec, monkeypatch):
    monkeypatch.setattr("hpo_service.training.files.node_cache.LOCK_POLL_SECONDS", 0.01)
    get(tmp_path, spec)
    (target,) = (each for each in (tmp_path / "rows").iterdir() if each.is_dir())
    away = target.rename(tmp_path / "away")
    waiting, told = threading.Event(), []

    def tell(message, _fraction):
        told.append(message)
        waiting.set()

    other = RowCache(tmp_path / "rows")
    found = []
    with locked(target, lambda *_: None):
        thread = threading.Thread(target=lambda: found.append(other.rows(spec, byte_tokenizer(), "a tokenizer", tell)))
        thread.start()
        assert waiting.wait(60)
        away.rename(target)
    thread.join(60)
    assert told[0] == f"waiting for another process that builds {target.name}"
    assert len(found) == 1


def test_the_content_of_a_folder_is_that_of_its_files_in_order(tmp_path):
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
        write_rows(folder / "a.jsonl", pairs(3))
        write_rows(folder / "b.jsonl", pairs(4))
    write_rows(folders[2] / "c.jsonl", pairs(1))
    one, two, three = (content_digest(DataSpec(source=str(folder))) for folder in folders)
    assert one == two != three


def test_the_content_of_a_hub_data_set_is_that_of_its_tables_and_slice(tmp_path, monkeypatch):
    import datasets

    stored = datasets.Dataset.from_list(pairs(10))
    stored.save_to_disk(tmp_path / "stored")
    on_disk = datasets.load_from_disk(tmp_path / "stored")
    given = {None: on_disk, "train[:5]": on_disk.select(range(5)), "memory": stored}
    monkeypatch.setattr(datasets, "load_dataset", lambda name, subset, split: given[split])
    specs = [DataSpec(source="some/thing", hub_split=split) for split in given]
    digests = [content_digest(spec) for spec in specs]
    assert len(set(digests)) == 3
    assert digests == [content_digest(spec) for spec in specs]


def test_a_missing_source_is_one_clear_line(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jsonl does not exist"):
        get(tmp_path, DataSpec(source="nowhere.jsonl"))
