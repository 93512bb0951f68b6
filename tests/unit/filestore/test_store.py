"""Bundles are there whole or not at all, on a folder as in object storage; only what a manifest names is believed."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest

from hpo_service.errors import FileStoreError
from hpo_service.filestore.bundle import Bundle
from hpo_service.filestore.removal import Removal
from hpo_service.filestore.store import FileStore, fetched


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def url(request, tmp_path):
    """A shared folder by its path and by its URL, fsspec's stand-in for object storage, and S3 as moto serves it."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/{uuid.uuid4().hex}"
    kinds = {"folder": str(tmp_path / "shared"), "file": f"file://{tmp_path}/shared", "memory": "memory://"}
    return f"{kinds[request.param]}/{uuid.uuid4().hex}"


@pytest.fixture
def write(tmp_path):
    def write(**texts):
        files = {}
        for name, text in texts.items():
            files[f"in/{name}"] = tmp_path / f"{uuid.uuid4().hex}-{name}"
            files[f"in/{name}"].write_text(text)
        return files

    return write


def texts(store, place, tmp_path):
    bundle = store.newest(place)
    folder = tmp_path / uuid.uuid4().hex
    store.fetch(bundle, folder)
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def stored(store, place=""):
    return store._found(place)


def test_what_was_put_is_fetched_by_whoever_names_the_same_store(url, write, tmp_path):
    bundle = FileStore(url).put("s/t", write(a="1", b="22"), {"trial": "x"})
    other = FileStore(url)
    assert other.newest("s/t") == bundle
    assert (bundle.size, bundle.about) == (3, {"trial": "x"})
    assert texts(other, "s/t", tmp_path) == {"a": "1", "b": "22"}


def test_a_newer_bundle_takes_the_place_of_the_older_and_nothing_of_that_is_left(url, write, tmp_path):
    store = FileStore(url)
    store.put("s/t", write(a="1", b="same"), {})
    store.put("s/t", write(a="2", b="same"), {})
    assert texts(FileStore(url), "s/t", tmp_path) == {"a": "2", "b": "same"}
    assert len(stored(store)) == 3


@pytest.mark.parametrize("label", ["filestore.parts"])
def test_a_writer_that_dies_before_its_manifest_leaves_the_older_bundle(url, write, tmp_path, monkeypatch, label):
    FileStore(url).put("s/t", write(a="1"), {})

    def die(reached):
        if reached == label:
            raise KeyboardInterrupt

    monkeypatch.setattr("hpo_service.filestore.store.reach", die)
    with pytest.raises(KeyboardInterrupt):
        FileStore(url).put("s/t", write(a="2"), {})
    monkeypatch.undo()
    assert texts(FileStore(url), "s/t", tmp_path) == {"a": "1"}
    FileStore(url).put("s/t", write(a="3"), {})
    assert len(stored(FileStore(url))) == 2


def test_a_manifest_that_is_cut_short_is_not_believed(url, write, tmp_path):
    store = FileStore(url)
    bundle = store.put("s/t", write(a="1"), {})
    for text in (bundle.manifest[:-9], bundle.manifest.replace(b'"size": 1', b'"size": 2'), b"[]", b""):
        store._fs.pipe_file(store._path("s/t", f"manifest-{9:020d}9-torn.json"), text)
        assert Bundle.read("s/t", text) is None
        assert store.newest("s/t") == bundle


def test_a_file_that_is_not_as_its_digest_says_is_not_believed(url, write, tmp_path):
    store = FileStore(url)
    bundle = store.put("s/t", write(a="1"), {})
    (digest,) = bundle.files.values()
    store._fs.pipe_file(store._part("s/t", digest), b"2")
    with pytest.raises(FileStoreError, match=r"s/t cannot be fetched .*in/a is not as it was put there"):
        store.fetch(bundle, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_manifest_cannot_lead_out_of_the_folder_that_it_is_fetched_into(url, write, tmp_path):
    store = FileStore(url)
    bundle = store.put("s/t", write(a="1"), {})
    leading_out = Bundle("s/t", {"../out": next(iter(bundle.files.values()))})
    with pytest.raises(FileStoreError, match="leads out"):
        store.fetch(leading_out, tmp_path / "new")
    assert not (tmp_path / "out").exists()


def test_places_are_listed_measured_and_removed(url, write):
    store = FileStore(url)
    assert (store.newest("s"), store.folders("s"), store.size("s")) == (None, [], 0)
    store.remove("s")
    for place in ("s/trials/a", "s/trials/b", "t/trials/c"):
        store.put(place, write(a="12345"), {})
    assert store.folders("s/trials") == ["a", "b"]
    assert store.size("s/trials/a") > 5
    store.remove("s/trials/a")
    assert (store.folders("s/trials"), store.newest("s/trials/a")) == (["b"], None)
    assert store.newest("t/trials/c") is not None


@pytest.mark.parametrize(
    "url, said",
    [
        ("nosuch://bucket/x", r"nosuch://bucket/x: p cannot be read .*HPO_SERVICE_STORE is a folder, or a URL"),
        ("az://bucket/x", r"az://bucket/x: p cannot be read .*pip install 'hpo-service\[az\]'"),
        ("sftp://me:secret@host/x", r"sftp://me:\*\*\*@host/x: p cannot be read"),
    ],
)
def test_a_store_that_cannot_be_had_is_one_line_with_its_remedy(url, said):
    with pytest.raises(FileStoreError, match=said) as caught:
        FileStore(url).newest("p")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_bundle_is_fetched_by_its_url(url, write, tmp_path):
    FileStore(url).put("s/adapter", write(a="1"), {})
    assert fetched(f"{url}/s/adapter", tmp_path / "got") is None
    assert (tmp_path / "got/in/a").read_text() == "1"
    assert "there is nothing whole at" in fetched(f"{url}/s/none", tmp_path / "none")


def test_removals_are_done_in_their_order_beside_the_caller_and_one_that_fails_costs_no_other(caplog):
    done, here = [], threading.get_ident()
    removal = Removal()

    def fail():
        raise FileStoreError("the store is away")

    removal.ask(fail)
    for number in range(3):
        removal.ask(lambda number=number: done.append((number, threading.get_ident() != here)))
    assert removal.close()
    assert done == [(0, True), (1, True), (2, True)]
    assert "the store is away; `hpo-service clean` removes it later" in caplog.text


def test_a_worker_that_removed_nothing_leaves_at_once_and_a_store_that_hangs_holds_nobody():
    assert Removal().close()
    released = threading.Event()
    removal = Removal()
    removal.ask(released.wait)
    assert not removal.close(0.01)
    released.set()


def test_paths_are_kept(tmp_path: Path):
    assert FileStore(str(tmp_path)).shown("a/b") == f"{tmp_path}/a/b"


def test_what_is_for_people_keeps_its_names_and_is_replaced_whole(url, tmp_path):
    store = FileStore(url)
    report = tmp_path / "report.html"
    for text in ("old", "new"):
        report.write_text(text)
        store.publish("s", {"report.html": report, "best/config.yaml": report})
    assert [path.removeprefix(store._path("s")) for path in stored(store, "s")] == ["/best/config.yaml", "/report.html"]
    assert store._fs.cat_file(store._path("s", "report.html")) == b"new"
