"""A disk that is full, a real one where this runs as root: it costs checkpoint and adapter, never the trial."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess

import pytest

from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.training.run import checkpoint as module
from hpo_service.training.run.checkpoint import CheckpointStore, Identity
from hpo_service.training.run.history import History
from hpo_service.wire.messages import CheckpointLost

DISK_BYTES = 1_100_000
"""Room for a trial's folder, and for no checkpoint: one leaves a million bytes free."""


def mounted(folder):
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    return os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0


def fill(disk):
    """Leave a few pages free: for folders, and not for what belongs in them."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    os.truncate(disk / "ballast", (disk / "ballast").stat().st_size - 4 * 4096)


@pytest.fixture
def small_disk(trainee, monkeypatch):
    """A disk of a megabyte under the trial's folder; where none may be mounted, one that says it is full."""
    folder = trainee.folder / "trial"
    folder.mkdir()
    real = mounted(folder)
    if not real:

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        usage = shutil.disk_usage(folder)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
        monkeypatch.setattr("hpo_service.training.engines.solo.replace_folder", full)
    yield folder
    if real:
        subprocess.run(["umount", str(folder)], check=True)


def lost(trainee):
    return [message.reason for message in trainee.messages if isinstance(message, CheckpointLost)]


def test_a_full_disk_costs_checkpoint_and_adapter_and_is_told_once_each(trainee, small_disk, monkeypatch):
    if small_disk.is_mount():
        fill(small_disk)
    outcome = trainee.run(trainee.config(keep_adapter=True))
    assert outcome.kind is OutcomeKind.COMPLETE
    assert outcome.adapter is None
    checkpoint, adapter = lost(trainee)
    assert "are left on the disk of" in checkpoint
    assert "hpo-service clean" in checkpoint
    assert adapter.startswith("the adapter could not be saved: ")
    assert outcome.facts.warnings.adapter == adapter
    assert not (small_disk / "adapter").exists()


def store_with(folder, free, **more):
    return CheckpointStore(folder, Identity("b", "c", "d"), "t", free_bytes=lambda _: free[0], **more)


def write(size):
    return lambda folder: (folder / "weights").write_bytes(b"x" * size)


def test_before_each_checkpoint_it_is_asked_whether_the_last_ones_size_is_free(tmp_path):
    free = [10**9]
    store = store_with(tmp_path / "checkpoint", free)
    store.save(1, History(), write(1000))
    free[0] = module.SPARE_BYTES + 999
    with pytest.raises(OSError, match=r"1 MB are left on the disk of .* free space") as caught:
        store.save(2, History(), write(1000))
    assert caught.value.errno == errno.ENOSPC
    found, _ = store.newest()
    assert found.step == 1
    assert [path.name.split("-")[0] for path in (tmp_path / "checkpoint").iterdir()] == ["step"]
    free[0] += 1
    store.save(3, History(), write(1000))
    assert store.newest()[0].step == 3
