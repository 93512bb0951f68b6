"""Which devices a machine has, from what its driver lists and what the environment allows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hpo_service.launch.devices import Gpu, list_gpus, parse_gpus, visible

LISTING = (
    "0, GPU-aaaa1111-0000-0000-0000-000000000000, NVIDIA H100 80GB HBM3, 81559\n"
    "1, GPU-bbbb2222-0000-0000-0000-000000000000, NVIDIA H100 80GB HBM3, 81559\n"
    "2, GPU-cccc3333-0000-0000-0000-000000000000, NVIDIA GB10, [N/A]\n"
)
GPUS = parse_gpus(LISTING)


def test_a_listing_is_parsed() -> None:
    assert GPUS[0] == Gpu("0", "NVIDIA H100 80GB HBM3", 81559, "GPU-aaaa1111-0000-0000-0000-000000000000")
    assert [gpu.index for gpu in GPUS] == ["0", "1", "2"]


def test_a_gpu_that_shares_the_hosts_memory_counts_although_its_own_is_not_told() -> None:
    assert GPUS[2].memory_mib == 0


@pytest.mark.parametrize(
    "line", ["", "No devices were found", "Unable to determine the device handle, lost", "a,b,c,d"]
)
def test_a_line_that_is_no_gpu_is_left_out(line: str) -> None:
    assert parse_gpus(f"{line}\n{LISTING}") == GPUS


@pytest.mark.parametrize(
    "allowed, names",
    [
        (None, ["0", "1", "2"]),
        ("", []),
        ("1", ["1"]),
        ("2,0", ["2", "0"]),
        (" 0 , 1 ", ["0", "1"]),
        ("0,9,1", ["0"]),
        ("-1", []),
        ("NoDevFiles", []),
        ("GPU-bbbb2222-0000-0000-0000-000000000000", ["GPU-bbbb2222-0000-0000-0000-000000000000"]),
        ("GPU-cccc,0", ["GPU-cccc", "0"]),
        ("GPU-dddd", []),
        ("MIG-1234", ["MIG-1234"]),
    ],
)
def test_the_environment_decides_which_are_used_and_by_which_name(allowed: str | None, names: list[str]) -> None:
    assert [gpu.index for gpu in visible(GPUS, allowed)] == names


def test_a_gpu_named_by_its_uuid_keeps_its_properties() -> None:
    (gpu,) = visible(GPUS, "GPU-bbbb")
    assert (gpu.name, gpu.memory_mib) == ("NVIDIA H100 80GB HBM3", 81559)


# asking the driver


def _driver(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program) if name == "nvidia-smi" else None)


def test_the_driver_is_asked_for_what_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    _driver(
        tmp_path,
        monkeypatch,
        'test "$1 $2" = "--query-gpu=index,uuid,name,memory.total --format=csv,noheader,nounits" || exit 9\n'
        f"printf '{LISTING}'",
    )
    assert list_gpus() == [GPUS[1]]


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert list_gpus() == []


def test_a_driver_that_fails_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _driver(tmp_path, monkeypatch, "echo NVIDIA-SMI has failed; exit 9")
    assert list_gpus() == []


def test_a_driver_that_hangs_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    _driver(tmp_path, monkeypatch, "")
    monkeypatch.setattr(subprocess, "run", hang)
    assert list_gpus() == []
