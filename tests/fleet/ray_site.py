"""A Ray cluster of two nodes on this host, of the test's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.fleet.processes import started_with

NODE = {"num_cpus": 2, "num_gpus": 0, "object_store_memory": 80 << 20}
"""Room for one worker of two CPUs."""


def missing() -> str:
    """Why no Ray can be started here; empty where one can."""
    return "" if importlib.util.find_spec("ray") else "not installed: pip install 'hpo-service[ray]' -c constraints.txt"


class RaySite:
    """The cluster, and what a test does to it. Its nodes have the variables that this process has at that time."""

    def __init__(self, folder: Path) -> None:
        """Start it in a folder that `RAY_TMPDIR` names."""
        from ray.cluster_utils import Cluster

        self.folder = folder / "ray"  # as RAY_TMPDIR has it; a cluster notes its address there and does not make it
        self.folder.mkdir()
        head = {**NODE, "temp_dir": str(self.folder), "include_dashboard": False}
        self._cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        self._second = self._add()

    def _add(self) -> Any:
        return _patiently(lambda: self._cluster.add_node(**NODE))

    @property
    def address(self) -> str:
        """Where drivers find it."""
        return str(self._cluster.address)

    def lose_a_node(self) -> int:
        """Take the second node away without a word; return the number that its processes bear."""
        number: int = self._second.all_processes["raylet"][0].process.pid
        self._cluster.remove_node(self._second, allow_graceful=False)
        return number

    def replace_the_node(self) -> None:
        """Start another second node."""
        self._second = self._add()

    def left(self, variable: str) -> list[str]:
        """Command lines of processes with this variable, but for Ray's own."""
        found = (Path(f"/proc/{pid}/cmdline") for pid in started_with(lambda told: variable in told))
        lines = [path.read_bytes().replace(b"\0", b" ").decode() for path in found if path.exists()]
        return [line for line in lines if "ray::" not in line and "/ray/" not in line]

    def tells(self, secret: str) -> list[str]:
        """Files of the cluster and command lines on this machine in which a secret stands."""
        written = [path for path in self.folder.rglob("*") if path.is_file()]
        run = list(Path("/proc").glob("[0-9]*/cmdline"))
        return [str(path) for path in (*written, *run) if secret.encode() in _read(path)]

    def stop(self) -> None:
        """End it all, this process's own connection first."""
        import ray

        ray.shutdown()
        self._cluster.shutdown()


def _patiently(start: Callable[[], Any]) -> Any:
    """Start something of Ray's, up to three times: it has 30 s for that, whatever else the machine does."""
    for _ in range(2):
        with suppress(Exception):
            return start()
    return start()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended, or is another's
        return b""
