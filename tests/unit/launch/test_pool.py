"""Workers on this machine: where they run, how they are restarted, told to leave and ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hpo_service.domain.study.spec import StudySpec
from hpo_service.errors import DatabaseFaultError, HpoServiceError, UnfitWorkerError
from hpo_service.launch import pool
from hpo_service.launch.devices import Gpu
from hpo_service.launch.pool import DONE, HEALTHY_SECONDS, MAX_RESTARTS, Place, WorkerPool, plan_places
from hpo_service.settings import Settings

PATIENCE = 20.0
"""Seconds until a test gives up."""
SECRET = "postgresql://me:secret@db/studies"


# where


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Makes this a machine with that many GPUs and cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def machine(gpus: int, cores: int) -> None:
        monkeypatch.setattr(pool, "list_gpus", lambda: [Gpu(str(i), "H100", 81559) for i in range(gpus)])
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)

    return machine


def _devices(places: list[Place]) -> list[str]:
    return [place.environment["CUDA_VISIBLE_DEVICES"] for place in places]


def _threads(places: list[Place]) -> list[str]:
    return [place.environment["OMP_NUM_THREADS"] for place in places]


def test_each_gpu_gets_a_worker(machine: Callable[[int, int], None]) -> None:
    machine(3, 16)
    places = plan_places(None)
    assert [place.name for place in places] == ["gpu0", "gpu1", "gpu2"]
    assert _devices(places) == ["0", "1", "2"]


@pytest.mark.parametrize("workers, devices", [(1, ["0"]), (2, ["0", "1"]), (5, ["0", "1", "0", "1", "0"])])
def test_workers_beyond_the_gpus_share_them_in_turn(
    machine: Callable[[int, int], None], workers: int, devices: list[str]
) -> None:
    machine(2, 16)
    assert _devices(plan_places(workers)) == devices


def test_workers_that_share_a_gpu_are_told_their_parts_of_its_memory_and_people_are_told_too(
    machine: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(2, 16)
    monkeypatch.delenv("HPO_SERVICE_MEMORY_GB", raising=False)
    first, alone, third = plan_places(3)
    assert first.environment == third.environment == {"CUDA_VISIBLE_DEVICES": "0", "HPO_SERVICE_MEMORY_GB": "42.8"}
    assert alone == Place("gpu1", {"CUDA_VISIBLE_DEVICES": "1"})
    assert third.note == "worker gpu2 is one of 2 on GPU 0 and may use 42.8 GB of it"
    monkeypatch.setenv("HPO_SERVICE_MEMORY_GB", "7")
    assert plan_places(3)[0].environment["HPO_SERVICE_MEMORY_GB"] == "7"


@pytest.mark.parametrize(
    "gpus, workers, devices", [(8, None, ["0,1,2,3", "4,5,6,7"]), (6, None, ["0,1,2,3"]), (4, 2, ["0,1,2,3"] * 2)]
)
def test_workers_whose_trials_take_several_gpus_get_groups_of_them(
    machine: Callable[[int, int], None], gpus: int, workers: int | None, devices: list[str]
) -> None:
    machine(gpus, 16)
    assert _devices(plan_places(workers, 4)) == devices


@pytest.mark.parametrize("gpus, have", [(1, "1 GPU"), (3, "3 GPUs")])
def test_too_few_gpus_for_one_trial_is_one_clear_line(
    machine: Callable[[int, int], None], gpus: int, have: str
) -> None:
    machine(gpus, 16)
    with pytest.raises(HpoServiceError, match=f"gpus_per_trial is 4, but only {have} can be used here: lower it"):
        plan_places(None, 4)


@pytest.mark.parametrize("cores, workers, threads", [(8, None, ["2", "2"]), (2, None, ["1"]), (1, 2, ["1", "1"])])
def test_without_a_gpu_the_processes_of_a_trial_divide_its_cores(
    machine: Callable[[int, int], None], cores: int, workers: int | None, threads: list[str]
) -> None:
    machine(0, cores)
    assert _threads(plan_places(workers, 2)) == threads


@pytest.mark.parametrize(
    "cores, workers, threads",
    [(1, None, ["1"]), (2, None, ["1", "1"]), (8, None, ["4", "4"]), (8, 3, ["2", "2", "2"]), (2, 4, ["1"] * 4)],
)
def test_without_a_gpu_workers_divide_the_cores(
    machine: Callable[[int, int], None], cores: int, workers: int | None, threads: list[str]
) -> None:
    machine(0, cores)
    places = plan_places(workers)
    assert _threads(places) == threads
    assert [place.name for place in places] == [f"cpu{i}" for i in range(len(threads))]


@pytest.mark.parametrize("cores, workers, threads", [(1, None, ["1"]), (8, None, ["8"]), (8, 2, ["4", "4"])])
def test_without_a_gpu_one_worker_that_trains_trials_side_by_side_has_all_cores(
    machine: Callable[[int, int], None], cores: int, workers: int | None, threads: list[str]
) -> None:
    machine(0, cores)
    assert _threads(plan_places(workers, side_by_side=True)) == threads


def test_a_number_of_threads_that_was_given_stands(
    machine: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(0, 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert _threads(plan_places(None)) == ["1", "1"]


# how


class Now:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Callable[..., WorkerPool]]:
    """Makes a crew whose workers run the given Python text instead of the real program."""
    crews = []

    def crew(text: str, places: int = 1, clock: Callable[[], float] = time.monotonic) -> WorkerPool:
        where = [Place(f"cpu{i}", {"PLACE": str(i)}) for i in range(places)]
        command = (sys.executable, "-S", "-c", f"import os, signal, sys, time\n{text}")
        crews.append(WorkerPool("s", SECRET, tmp_path, where, clock, command))
        return crews[-1]

    yield crew
    for each in crews:
        each.signal(signal.SIGKILL)
        each.wait(PATIENCE)


Crew = Callable[..., WorkerPool]


def _eventually(holds: Callable[[], object]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.01)
    return False


def _log(crew: WorkerPool, place: int = 0) -> str:
    file = crew.log_of(crew.places[place])
    return file.read_text() if file.exists() else ""


def test_a_worker_knows_its_study_database_output_and_place(crew: Crew, tmp_path: Path) -> None:
    workers = crew("print(sys.argv[1:], os.environ['HPO_SERVICE_STORAGE'], os.environ['HPO_SERVICE_OUTPUT'], "
                   "os.environ['PLACE'])", places=2)  # fmt: skip
    workers.start()
    assert workers.wait(PATIENCE)
    for place in (0, 1):
        assert _log(workers, place) == f"['--study', 's', '--until-finished'] {SECRET} {tmp_path} {place}\n"


def test_a_pool_is_planned_for_the_devices_of_this_machine(machine: Callable[[int, int], None], tmp_path: Path) -> None:
    machine(4, 16)
    study = {"name": "mine", "model": {"base": "one"}, "data": {"source": "rows"}}
    settings = Settings(SECRET, tmp_path, tmp_path / "cache")
    spec = StudySpec.model_validate({**study, "execution": {"gpus_per_trial": 2}})
    planned = WorkerPool.plan(spec, settings, None)
    assert _devices(list(planned.places)) == ["0,1", "2,3"]
    assert (planned.study, planned.storage, planned.alive) == ("mine", SECRET, 0)
    assert planned.logs == str(tmp_path / "logs")
    with pytest.raises(HpoServiceError, match="gpus_per_trial is 8, but only 4 GPUs"):
        WorkerPool.plan(StudySpec.model_validate({**study, "execution": {"gpus_per_trial": 8}}), settings, None)


def test_what_people_should_know_of_a_place_is_said_once(crew: Crew) -> None:
    workers = crew("time.sleep(600)")
    workers.places = [Place("gpu0", {}, "one of 2")]
    workers.start()
    assert workers.watch() == ["one of 2"]
    assert workers.watch() == []


def test_the_real_command_is_a_worker_of_this_package() -> None:
    workers = WorkerPool("s", SECRET, Path(), [])
    assert list(workers.command) == [sys.executable, "-m", "hpo_service", "worker"]


def test_the_databases_password_is_on_no_command_line(crew: Crew) -> None:
    workers = crew("print(1, flush=True)\ntime.sleep(600)")
    workers.start()
    assert _eventually(lambda: _log(workers))
    (process,) = workers._processes()
    assert "secret" not in " ".join(psutil.Process(process.pid).cmdline())


def test_workers_have_sessions_of_their_own(crew: Crew) -> None:
    workers = crew("time.sleep(600)", places=2)
    workers.start()
    assert workers.alive == 2
    assert all(os.getsid(process.pid) == process.pid for process in workers._processes())


def test_a_worker_that_dies_is_started_again_after_growing_pauses_and_then_left_alone(crew: Crew) -> None:
    now = Now()
    workers = crew("sys.exit(3)", clock=now)
    workers.start()
    pauses = []
    for _ in range(MAX_RESTARTS):
        assert _eventually(lambda: not workers._processes())
        (line,) = workers.watch()
        assert "ended with status 3" in line
        assert str(workers.log_of(workers.places[0])) in line
        assert workers.alive == 1
        assert workers.watch() == []
        began = now.seconds
        while not (lines := workers.watch()):
            now.seconds += 0.25
        pauses.append(now.seconds - began)
        assert lines == ["worker cpu0 was started again"]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert _eventually(lambda: not workers._processes())
    (line,) = workers.watch()
    assert "ended for good" in line
    assert (workers.alive, workers.watch()) == (0, [])


def test_a_worker_that_has_just_died_counts_until_its_end_was_looked_at(crew: Crew) -> None:
    workers = crew("sys.exit(3)", clock=Now())
    workers.start()
    assert _eventually(lambda: not workers._processes())
    assert (workers.alive, workers.occupied) == (1, {"cpu0"})
    assert "it is started again in 1 s" in workers.watch()[0]


def _pause(workers: WorkerPool, now: Now) -> float | None:
    """The pause after the next death until the worker is started again; None where it is not."""
    assert _eventually(lambda: not workers._processes())
    (line,) = workers.watch()
    if "for good" in line:
        return None
    began = now.seconds
    while not workers.watch():
        now.seconds += 0.25
    return now.seconds - began


def test_deaths_before_a_stretch_of_health_are_forgotten(crew: Crew) -> None:
    now = Now()
    workers = crew("sys.exit(3)", clock=now)
    workers.start()
    for _ in range(3 * MAX_RESTARTS):
        assert _eventually(lambda: not workers._processes())
        now.seconds += HEALTHY_SECONDS
        assert _pause(workers, now) == 1.0


def test_outages_of_the_database_do_not_count(crew: Crew) -> None:
    now = Now()
    workers = crew("sys.exit(5)", clock=now)
    workers.start()
    pauses = [_pause(workers, now) for _ in range(2 * MAX_RESTARTS)]
    assert pauses[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert set(pauses[6:]) == {32.0}


def test_a_worker_that_cannot_work_gets_one_more_chance_and_its_reason_is_told(crew: Crew) -> None:
    now = Now()
    status = UnfitWorkerError.exit_code
    workers = crew(f"print('INFO started'); print('error: peft not installed'); sys.exit({status})", clock=now)
    workers.start()
    assert _eventually(lambda: not workers._processes())
    (line,) = workers.watch()
    assert line == "worker cpu0 left: peft not installed: it is started again in 8 s"
    now.seconds += 8
    assert workers.watch() == ["worker cpu0 was started again"]
    assert _eventually(lambda: not workers._processes())
    assert workers.watch() == ["worker cpu0 ended for good: left: peft not installed"]
    assert workers.alive == 0


@pytest.mark.parametrize("status", DONE)
def test_a_worker_that_is_done_is_not_started_again(crew: Crew, status: int) -> None:
    workers = crew(f"sys.exit({status})")
    workers.start()
    assert _eventually(lambda: not workers._processes())
    assert workers.watch() == []
    assert workers.alive == 0


def test_a_worker_whose_database_cannot_work_is_not_started_again_and_that_is_said(crew: Crew) -> None:
    workers = crew(f"sys.exit({DatabaseFaultError.exit_code})")
    workers.start()
    assert _eventually(lambda: not workers._processes())
    (line,) = workers.watch()
    assert "ended for good" in line
    assert workers.alive == 0


def test_one_workers_death_does_not_touch_the_others(crew: Crew) -> None:
    workers = crew("os.environ['PLACE'] == '0' and sys.exit(1)\ntime.sleep(600)", places=2, clock=Now())
    workers.start()
    assert _eventually(lambda: len(workers._processes()) == 1)
    (line,) = workers.watch()
    assert line.startswith("worker cpu0")
    assert workers.alive == 2


COUNTS = (
    "heard = lambda *_: print('heard', flush=True)\n"
    "signal.signal(signal.SIGTERM, heard)\nprint('ready', flush=True)\nwhile True: time.sleep(600)"
)
LEAVES = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nprint('ready', flush=True)\ntime.sleep(600)"


def test_each_signal_reaches_each_worker_once(crew: Crew) -> None:
    workers = crew(COUNTS, places=2)
    workers.start()
    assert _eventually(lambda: "ready" in _log(workers, 0) and "ready" in _log(workers, 1))

    def heard() -> list[int]:
        return [_log(workers, place).count("heard") for place in (0, 1)]

    workers.signal(signal.SIGTERM)
    assert _eventually(lambda: heard() == [1, 1])
    workers.signal(signal.SIGTERM)
    assert _eventually(lambda: heard() == [2, 2])
    workers.watch()
    assert heard() == [2, 2]


def test_a_signal_that_comes_while_workers_are_started_reaches_them_and_no_more_are_started(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = crew("time.sleep(600)", places=3)
    spawn = workers._spawn

    def interrupted(place: Place) -> object:
        process = spawn(place)
        if place.name == "cpu1":
            workers.signal(signal.SIGTERM)
        return process

    monkeypatch.setattr(workers, "_spawn", interrupted)
    workers.start()
    assert len(workers._running) == 2
    assert _eventually(lambda: workers.alive == 0)


def test_after_a_signal_nobody_is_started_again(crew: Crew) -> None:
    now = Now()
    workers = crew("sys.exit(1)", clock=now)
    workers.start()
    assert _eventually(lambda: workers.watch())
    assert workers.alive == 1
    workers.signal(signal.SIGTERM)
    now.seconds += 100
    assert workers.watch() == []
    assert workers.alive == 0


def test_waiting_ends_when_the_workers_have_left(crew: Crew) -> None:
    workers = crew(LEAVES, places=2)
    workers.start()
    assert _eventually(lambda: "ready" in _log(workers, 0) and "ready" in _log(workers, 1))
    ticks: list[int] = []
    threading.Timer(0.05, workers.signal, [signal.SIGTERM]).start()
    assert workers.wait(PATIENCE, lambda: ticks.append(1))
    assert ticks


def test_who_is_late_is_killed(crew: Crew) -> None:
    workers = crew(COUNTS)
    workers.start()
    assert _eventually(lambda: "ready" in _log(workers))
    workers.signal(signal.SIGTERM)
    assert not workers.wait(0.05)
    assert workers.alive == 0


def test_a_worker_that_ends_while_waiting_looks_elsewhere_is_no_trouble(crew: Crew) -> None:
    workers = crew("time.sleep(600)")
    workers.start()

    def end() -> None:
        for process in workers._processes():
            process.kill()
            process.wait()

    assert workers.wait(PATIENCE, end)


def test_waiting_for_nobody_ends_at_once(crew: Crew) -> None:
    assert crew("").wait(PATIENCE)


def test_what_workers_write_from_now_on_is_told_with_their_names(crew: Crew) -> None:
    workers = crew("print('hello', flush=True)")
    workers.log_of(workers.places[0]).parent.mkdir(parents=True, exist_ok=True)
    workers.log_of(workers.places[0]).write_text("of an earlier run\n")
    workers.start()
    assert workers.wait(PATIENCE)
    name = workers.places[0].name
    assert [line for line in workers.said() if line.startswith(f"{name}:")] == [f"{name}: hello"]
    assert workers.said() == []
