"""Many rows on several cores and on disk give what few give on one core in memory, and faults are told alike."""

import json
import multiprocessing
import os
import signal

import numpy as np
import pytest

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.errors import DataError
from hpo_service.training.data.formats import read_examples
from hpo_service.training.data.reading.source import read_rows
from hpo_service.training.data.rows import prepare_rows
from hpo_service.training.data.split import split_examples
from hpo_service.training.data.tokenising import cores as several
from hpo_service.training.data.tokenising.cores import Cores
from hpo_service.training.data.tokenising.spool import Spool
from hpo_service.training.data.tokenising.work import Work, unpacked
from hpo_service.training.data.tokens import tokenise
from tests.training.tiny import CHAT_TEMPLATE, byte_tokenizer, pairs, write_rows


@pytest.fixture
def two_cores(monkeypatch):
    """Every batch but the first goes to one of two processes."""
    monkeypatch.setattr(several, "usable_cores", lambda: 2)
    monkeypatch.setattr(several, "ALONE", 1)
    monkeypatch.setattr(several, "BATCH", 20)


@pytest.fixture
def spec(tmp_path):
    return DataSpec(source=write_rows(tmp_path / "rows.jsonl", pairs(130)), as_chat=True)


def arrays(rows):
    parts = (rows.train, rows.validation, rows.test)
    return [getattr(part, name).tolist() for part in parts for name in ("ids", "labels", "bounds")]


def test_rows_are_those_that_one_core_makes_in_memory(tmp_path, spec, two_cores, monkeypatch):
    many = prepare_rows(spec, byte_tokenizer(CHAT_TEMPLATE), folder=tmp_path / "rows")
    monkeypatch.setattr(several, "usable_cores", lambda: 1)
    one = prepare_rows(spec, byte_tokenizer(CHAT_TEMPLATE))
    assert arrays(many) == arrays(one)
    assert many.report == one.report
    assert list((tmp_path / "rows").iterdir()) == []


def test_rows_are_those_that_whole_parts_give(spec):
    rows = prepare_rows(spec, byte_tokenizer(CHAT_TEMPLATE))
    split = split_examples(read_examples(list(read_rows(spec.source)), as_chat=True)[1], spec.split)
    for name, examples in split.parts.items():
        whole = tokenise(examples, byte_tokenizer(CHAT_TEMPLATE), spec.max_length).rows
        assert getattr(rows, name).ids.tolist() == whole.ids.tolist()
        assert getattr(rows, name).labels.tolist() == whole.labels.tolist()


def test_a_row_that_does_not_fit_is_named_from_another_process(tmp_path, two_cores):
    rows = [*pairs(50), {"prompt": 1, "completion": "b"}, *pairs(60)]
    with pytest.raises(DataError, match=r"rows\.jsonl, line 51: column 'prompt' must be text"):
        prepare_rows(DataSpec(source=write_rows(tmp_path / "rows.jsonl", rows)), byte_tokenizer())


def test_how_much_is_done_rises_to_the_whole(spec, two_cores):
    told = []
    prepare_rows(spec, byte_tokenizer(CHAT_TEMPLATE), told.append)
    assert told == sorted(told)
    assert 0 < told[0] <= 0.5
    assert told[-1] == 1


def test_what_cannot_be_sent_is_done_here(spec, two_cores, caplog):
    tokenizer = byte_tokenizer(CHAT_TEMPLATE)
    tokenizer.not_to_be_sent = lambda: None
    with Cores(Work(spec, "prompt-completion", tokenizer)) as cores:
        batches = list(cores.map(Work.understand, read_rows(spec.source)))
    assert sum(batch.read for batch in batches) == 130
    assert "rows are tokenised on one core, since their tokenizer cannot be sent" in caplog.text


def end_this_process(work, batch):
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return work.understand(batch)


def test_batches_of_processes_that_were_killed_are_done_here(spec, two_cores, caplog):
    with Cores(Work(spec, "prompt-completion", byte_tokenizer(CHAT_TEMPLATE))) as cores:
        batches = list(cores.map(end_this_process, read_rows(spec.source)))
    assert sum(batch.read for batch in batches) == 130
    assert "since the processes of the others ended" in caplog.text


def test_a_packed_row_is_the_row_that_was_packed(spec):
    rows = list(read_rows(spec.source))[:3]
    batch = Work(spec, "prompt-completion", byte_tokenizer(CHAT_TEMPLATE)).understand(rows)
    assert [unpacked(each) for each in batch.packed] == read_examples(rows, as_chat=True)[1]


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_spool_gives_back_what_was_added_and_may_be_written_to(tmp_path, on_disk):
    spool = Spool(tmp_path if on_disk else None)
    assert spool.array(np.int32).tolist() == []
    for numbers in ([1, 2], [3]):
        spool.add(np.asarray(numbers, dtype=np.int32).data)
    array = spool.array(np.int32)
    array[0] = 7
    assert array.tolist() == [7, 2, 3]
    assert list(tmp_path.iterdir()) == []


def test_rows_of_any_text_survive_being_packed(tmp_path):
    rows = [{"prompt": f"{i} \u65e5 \U0001f600", "completion": json.dumps({"a": i})} for i in range(60)]
    spec = DataSpec(source=write_rows(tmp_path / "rows.jsonl", rows))
    assert prepare_rows(spec, byte_tokenizer()).report.rows_read == 60
