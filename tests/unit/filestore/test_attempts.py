"""What passes from node to node through the store: the newest checkpoint, and the reports that lie behind it."""

from __future__ import annotations

import contextlib

import pytest

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.report import Report
from hpo_service.errors import FileStoreError
from hpo_service.filestore import attempts
from hpo_service.filestore.adapters import reaches, remove_adapter
from hpo_service.filestore.attempts import CHECKPOINT, discard_checkpoints, keep_adapter, mirror, restore, trial_place
from hpo_service.filestore.store import store_at
from hpo_service.wire.attempt_folder import AttemptFolder
from hpo_service.wire.undelivered import keep_undelivered
from tests.trials import assignment

CONFIG = TrialConfig(study="study", stage="search", parameters={}, seed=1)


class Node:
    """A link as the store sees it: a trial's attempt in a folder of a node of its own."""

    def __init__(self, disk, store, attempt, **changes):
        self.assignment = assignment(CONFIG, attempt=attempt, **{"identity": "study 1, trial 1 of 1.0", **changes})
        self.folder, self.store = AttemptFolder.of(disk, self.assignment), store
        self.folder.path.mkdir(parents=True)
        self.reported, self.lost = [], []

    @contextlib.contextmanager
    def busy(self, activity, limit=0.0):
        yield

    def report(self, report):
        self.reported.append(report.step)

    def checkpoint_lost(self, reason):
        self.lost.append(reason)

    def save(self, text):
        self.folder.checkpoint.mkdir(exist_ok=True)
        (self.folder.checkpoint / "state").write_text(text)
        return self

    @property
    def state(self):
        path = self.folder.checkpoint / "state"
        return path.read_text() if path.exists() else None


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture
def node(tmp_path, url):
    disks = iter(range(100))
    return lambda attempt, disk=None, store=url, **changes: Node(
        tmp_path / (disk or f"disk{next(disks)}"), store, attempt, **changes
    )


def place():
    return trial_place("t", assignment(CONFIG).key, "study 1, trial 1 of 1.0")


def test_the_next_attempt_on_another_node_has_what_the_last_one_saved(node):
    mirror(node(1).save("one"))
    second = node(2)
    restore(second)
    assert (second.state, second.lost) == ("one", [])
    mirror(second.save("two"))
    third = node(3)
    restore(third)
    assert third.state == "two"


def test_of_a_trial_the_store_holds_the_newest_checkpoint_alone(node, url):
    mirror(node(1).save("one"))
    mirror(node(2).save("two"))
    assert [store_at(url).newest(f"{place()}/attempt-{n}/{CHECKPOINT}") is not None for n in (1, 2)] == [False, True]


def test_reports_behind_the_checkpoint_that_no_database_has_heard_of_are_delivered(node):
    first = node(1).save("ahead")
    for step in (2, 1):
        keep_undelivered(first.folder, Report(step=step, fraction=0.5, value=1.0), first.assignment.identity)
    mirror(first)
    second = node(2)
    restore(second)
    assert second.reported == [1, 2]


def test_what_lies_on_the_node_is_kept_where_the_store_has_nothing_newer(node):
    first = node(1, "same").save("one")
    mirror(first)
    second = node(2, "same").save("handed over here")
    restore(second)
    assert second.state == "handed over here"


def test_a_later_attempt_elsewhere_is_newer_than_what_was_left_here(node):
    mirror(node(1, "here").save("one"))
    mirror(node(2, "elsewhere").save("two"))
    third = node(3, "here").save("handed over from the first")
    restore(third)
    assert third.state == "two"


def test_a_trial_of_the_same_name_in_another_database_has_a_place_of_its_own(node):
    mirror(node(1).save("theirs"))
    other = node(2, identity="study 1, trial 1 of 2.0")
    restore(other)
    assert other.state is None


@pytest.mark.parametrize("failures, state", [(1, "deadly"), (2, None)])
def test_the_last_attempt_starts_afresh_where_two_died_on_the_checkpoint(node, failures, state):
    mirror(node(1, failures=0).save("deadly"))
    last = node(3, failures=failures, last=True)
    restore(last)
    assert last.state == state


def test_a_store_that_does_not_answer_costs_the_checkpoint_and_says_so(node, monkeypatch):
    mirror(node(1).save("one"))

    def away(*_):
        raise FileStoreError("the store is away")

    monkeypatch.setattr(attempts.FileStore, "newest", away)
    second = node(2).save("what is here")
    restore(second)
    assert (second.state, second.lost) == ("what is here", ["the store is away"])


def test_without_a_store_nothing_is_copied_and_the_adapter_stays_where_it_is(node):
    first = node(1, store="").save("one")
    mirror(first)
    restore(first)
    assert keep_adapter(first) == str(first.folder.adapter)


def test_an_adapter_moves_to_the_store_and_is_removed_from_there(node, url, tmp_path):
    first = node(1)
    first.folder.adapter.mkdir()
    (first.folder.adapter / "weights").write_text("w")
    kept, store = keep_adapter(first), store_at(url)
    assert kept == f"{url}/{place()}/attempt-1/adapter"
    assert not first.folder.adapter.exists()
    assert reaches(kept, tmp_path / "disk0", store)
    remove_adapter(kept, store)
    assert store.newest(f"{place()}/attempt-1/adapter") is None


def test_only_what_is_where_trials_keep_theirs_is_ever_removed(node, url, tmp_path):
    first = node(1, "disk")
    first.folder.adapter.mkdir()
    assert reaches(str(first.folder.adapter), tmp_path / "disk", None)
    for adapter in (str(tmp_path), "/etc", str(first.folder.path), f"{url}/elsewhere", "s3://other/adapter"):
        assert not reaches(adapter, tmp_path / "disk", store_at(url))
    remove_adapter(str(first.folder.adapter), None)
    assert not first.folder.adapter.exists()


def test_links_and_half_written_checkpoints_stay_on_the_node(node, tmp_path):
    first = node(1).save("one")
    (tmp_path / "secret").write_text("s")
    (first.folder.checkpoint / "link").symlink_to(tmp_path / "secret")
    (first.folder.checkpoint / ".unfinished-1").mkdir()
    (first.folder.checkpoint / ".unfinished-1" / "half").write_text("h")
    mirror(first)
    second = node(2)
    restore(second)
    assert [path.name for path in second.folder.checkpoint.iterdir()] == ["state"]


def test_checkpoints_of_a_trial_that_has_ended_are_removed(node, url):
    mirror(node(1).save("one"))
    discard_checkpoints(store_at(url), place())
    second = node(2)
    restore(second)
    assert second.state is None
