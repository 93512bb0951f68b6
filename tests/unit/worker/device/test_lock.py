"""Two workers on one GPU by mistake: the second is told so, and on purpose both go."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpo_service.errors import UnfitWorkerError
from hpo_service.worker.device.lock import DeviceLock

HOLDER = """
import sys, time
from pathlib import Path
from hpo_service.worker.device.lock import DeviceLock
lock = DeviceLock("first", Path(sys.argv[1]))
lock.take({"GPU-1": "GPU 1"})
print("has it", flush=True)
time.sleep(60)
"""


def test_the_second_worker_on_a_gpu_is_told_whose_it_is_and_what_to_do(tmp_path: Path) -> None:
    first = DeviceLock("node-1", tmp_path)
    first.take({"GPU-1": "GPU 1"})
    with pytest.raises(UnfitWorkerError, match=r"^worker node-1 has GPU 1 already: end one .*HPO_SERVICE_MEMORY_GB$"):
        DeviceLock("node-2", tmp_path).take({"GPU-1": "GPU 1"})
    DeviceLock("node-2", tmp_path).take({"GPU-2": "GPU 2"})


def test_workers_that_were_told_their_shares_bear_each_other_and_nobody_else(tmp_path: Path) -> None:
    locks = [DeviceLock(f"node-{i}", tmp_path, shared=True) for i in (1, 2)]
    for lock in locks:
        lock.take({"GPU-1": "GPU 1"})
    alone = DeviceLock("node-3", tmp_path)
    with pytest.raises(UnfitWorkerError, match="worker node-2 has GPU 1"):
        alone.take({"GPU-1": "GPU 1"})
    for lock in locks:
        lock.release()
    alone.take({"GPU-1": "GPU 1"})
    with pytest.raises(UnfitWorkerError, match="worker node-3 has GPU 1"):
        locks[0].take({"GPU-1": "GPU 1"})


def test_who_is_refused_holds_none_of_its_gpus(tmp_path: Path) -> None:
    DeviceLock("node-1", tmp_path).take({"GPU-2": "GPU 2"})
    first = DeviceLock("node-1", tmp_path)
    first.take({"GPU-3": "GPU 3"})
    second = DeviceLock("node-2", tmp_path)
    with pytest.raises(UnfitWorkerError):
        second.take({"GPU-1": "GPU 1", "GPU-3": "GPU 3"})
    DeviceLock("node-4", tmp_path).take({"GPU-1": "GPU 1"})


def test_a_gpu_is_free_as_soon_as_its_worker_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "has it\n"
        with pytest.raises(UnfitWorkerError, match="worker first has"):
            DeviceLock("second", tmp_path).take({"GPU-1": "GPU 1"})
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        DeviceLock("second", tmp_path).take({"GPU-1": "GPU 1"})
    finally:
        holder.kill()
        holder.communicate()


def test_where_no_lock_can_be_had_it_is_said_and_the_worker_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        DeviceLock("node-1", tmp_path / "nowhere").take({"GPU-1": "GPU 1"})
    assert "no lock can be taken" in caplog.text


def test_a_file_that_was_put_in_the_way_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "hpo-service-GPU-1.lock").symlink_to(victim)
    DeviceLock("node-1", tmp_path).take({"GPU-1": "GPU 1"})
    assert victim.read_text() == "precious"
