"""Which devices a machine has, from what its driver tells and what the environment allows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml
import pytest

from hpo_service.errors import UsageError
from hpo_service.launch import devices
from hpo_service.launch.devices import Gpu, list_gpus, visible

H100 = "NVIDIA H100 80GB HBM3"
GPUS = [
    Gpu("0", H100, 81559, "GPU-aaaa1111-0000-0000-0000-000000000000"),
    Gpu("1", H100, 81559, "GPU-bbbb2222-0000-0000-0000-000000000000"),
    Gpu("2", "NVIDIA GB10", 0, "GPU-cccc3333-0000-0000-0000-000000000000"),
]
SLICES = [
    Gpu("MIG-dddd4444", f"{H100} MIG 1g.10gb", 9984, "MIG-dddd4444", slice_of="3"),
    Gpu("MIG-eeee5555", f"{H100} MIG 1g.10gb", 9984, "MIG-eeee5555", slice_of="3"),
]


@pytest.mark.parametrize(
    "allowed, names",
    [
        (None, ["0", "1", "2", "MIG-dddd4444", "MIG-eeee5555"]),
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
        ("MIG-GPU-aaaa1111/1/0", ["MIG-GPU-aaaa1111/1/0"]),
        ("MIG-eeee5555,MIG-dddd", ["MIG-eeee5555", "MIG-dddd"]),
        ("3", ["3"]),
    ],
)
def test_the_environment_decides_which_are_used_and_by_which_name(allowed: str | None, names: list[str]) -> None:
    assert [gpu.index for gpu in visible(GPUS + SLICES, allowed)] == names


def test_a_gpu_named_by_its_uuid_keeps_its_properties() -> None:
    (gpu,) = visible(GPUS, "GPU-bbbb")
    assert (gpu.name, gpu.memory_mib) == ("NVIDIA H100 80GB HBM3", 81559)


@pytest.mark.parametrize("name", ["MIG-dddd4444", "MIG-dddd", "3"])
def test_a_slice_named_by_its_uuid_or_by_its_gpus_number_keeps_its_properties(name: str) -> None:
    (gpu,) = visible(GPUS + SLICES, name)
    assert (gpu.name, gpu.memory_mib, gpu.uuid) == (f"{H100} MIG 1g.10gb", 9984, "MIG-dddd4444")


def test_a_worker_has_the_memory_of_its_smallest_gpu_and_labels_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_gpus", lambda: [GPUS[0], SLICES[0]])
    has = devices.resources(["spot"])
    assert has.gpus == 2
    assert has.memory_gb == pytest.approx(10.47, abs=0.01)
    assert has.labels == ("gpu", "nvidia-h100-80gb-hbm3", "nvidia-h100-80gb-hbm3-mig-1g.10gb", "mig", "spot")


def test_a_gpu_that_does_not_tell_its_memory_offers_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_gpus", lambda: GPUS)
    assert devices.resources().memory_gb is None


def test_a_machine_without_gpus_says_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_gpus", list)
    assert devices.resources() == devices.Resources(None, None, ("cpu",))


@pytest.mark.parametrize("label", ["two words", "-x", "", "x" * 64])
def test_a_label_that_no_study_could_ask_for_is_refused(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_gpus", list)
    with pytest.raises(UsageError, match="HPO_SERVICE_LABELS"):
        devices.resources([label])


# asking the driver


@dataclass
class Card:
    """What the driver knows of a GPU or of a slice; None for a place without a slice."""

    uuid: str
    name: str = H100
    memory_mib: int | None = 81559
    slices: list[Card | None] | None = None
    lost: bool = False


@dataclass
class Driver:
    """Stands in for NVML; cards are their own handles."""

    cards: list[Card] = field(default_factory=list)
    open: int = 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> Card:
        if self.cards[number].lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return self.cards[number]

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        if card.name == "NVIDIA GB10":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(card.slices is not None), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return len(card.slices or [])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, place: int) -> Card:
        found = card.slices[place] if card.slices else None
        if found is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        return card.uuid

    def nvmlDeviceGetName(self, card: Card) -> str:
        return card.name

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> SimpleNamespace:
        if card.memory_mib is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(total=card.memory_mib * 2**20 + 1)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    whole = [Card(GPUS[0].uuid), Card(GPUS[1].uuid), Card(GPUS[2].uuid, "NVIDIA GB10", None)]
    made = Driver(whole)
    for name in [name for name in dir(Driver) if name.startswith("nvml")]:
        monkeypatch.setattr(pynvml, name, getattr(made, name))
    return made


def test_the_driver_is_asked_for_number_uuid_name_and_memory(driver: Driver) -> None:
    assert list_gpus() == GPUS
    assert driver.open == 0


def test_a_gpu_that_shares_the_hosts_memory_counts_although_its_own_is_not_told(driver: Driver) -> None:
    assert list_gpus()[2] == Gpu("2", "NVIDIA GB10", 0, GPUS[2].uuid)


def test_the_environment_is_honoured(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert list_gpus() == [GPUS[1]]


def test_a_gpu_in_slices_counts_as_these(driver: Driver) -> None:
    pieces = [Card(gpu.uuid, gpu.name, gpu.memory_mib) for gpu in SLICES]
    driver.cards.append(Card("GPU-ffff6666", slices=[pieces[0], None, pieces[1], None]))
    driver.cards.append(Card("GPU-ffff7777", slices=[None, None]))
    assert list_gpus() == [*GPUS, *SLICES]


def test_a_gpu_that_is_lost_is_left_out_and_the_others_keep_their_numbers(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.cards[0].lost = True
    assert list_gpus() == GPUS[1:]
    assert "GPU 0 does not answer" in caplog.text


def _raising(error: int) -> Callable[[], None]:
    def call() -> None:
        raise pynvml.NVMLError(error)

    return call


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_without_a_driver_there_is_no_gpu(
    error: int, driver: Driver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", _raising(error))
    assert list_gpus() == []
    assert caplog.text == ""


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetCount"])
def test_a_driver_that_fails_is_no_gpu_and_says_so(
    call: str, driver: Driver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pynvml, call, _raising(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH))
    assert list_gpus() == []
    assert "the NVIDIA driver does not work (RM has detected an NVML/RM version mismatch" in caplog.text


def test_a_driver_that_hangs_is_no_gpu_and_says_so(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    end = threading.Event()
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(driver.cards) * end.wait())
    monkeypatch.setattr(devices, "DRIVER_SECONDS", 0.01)
    assert list_gpus() == []
    assert "has not answered for 0.01 seconds" in caplog.text
    end.set()


def test_the_processes_on_a_device_are_listed_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    on = {"GPU-aaaa": [11, 12], "MIG-dddd4444": [13]}
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda uuid: [SimpleNamespace(pid=pid) for pid in on[uuid]]
    )
    gpus = [Gpu("0", H100, 81559, "GPU-aaaa"), SLICES[0], Gpu("MIG-old", "slice of a GPU", 0)]
    assert devices.processes_on(gpus) == [11, 12, 13]


def test_a_driver_that_tells_no_processes_tells_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

    monkeypatch.setattr(pynvml, "nvmlInit", broken)
    assert devices.processes_on(GPUS) == []
