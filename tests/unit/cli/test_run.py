"""What `run` does when workers, the database or the terminal leave it: with a crew that does as it is told."""

from __future__ import annotations

import importlib
import json
import signal
from dataclasses import dataclass, field

import pytest

from hpo_service import cli
from hpo_service.bootstrap import Service
from hpo_service.cli import study_file
from hpo_service.domain.study.finding import Finding
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.states import StudyState
from hpo_service.errors import DatabaseUnavailableError
from hpo_service.launch import study_run
from hpo_service.launch.pool import WorkerPool
from hpo_service.service.studies.watch import StudyWatch
from hpo_service.settings import Settings

run = importlib.import_module("hpo_service.cli.run")  # the package's own `run` is the command

STUDY = """\
name: mine
objective: {python: "nowhere:nothing"}
space: {parameters: {x: {low: 0.0, high: 1.0}}}
search: {sampler: random, budget: {trials: 2}}
"""


@dataclass
class Crew:
    """Workers that stay for so many looks, and do something of the test's at each."""

    looks: int = 3
    at_look: dict[int, object] = field(default_factory=dict)
    leaves_in_time: bool = True
    signals: list[signal.Signals] = field(default_factory=list)
    waited: float = 0.0

    logs = "somewhere"

    def plan(self, spec: StudySpec, settings: Settings, workers: int | None) -> Crew:
        self.logs = str(settings.output / "logs")
        return self

    def start(self) -> None:
        pass

    @property
    def alive(self) -> int:
        self.looks -= 1
        return int(self.looks >= 0)

    def watch(self) -> list[str]:
        happening = self.at_look.get(self.looks)
        return [str(happening() or "")] if callable(happening) else []

    def said(self) -> list[str]:
        return [f"cpu0: line {self.looks}"]

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)

    def wait(self, seconds: float) -> bool:
        self.waited = seconds
        return self.leaves_in_time


@pytest.fixture
def crew(monkeypatch):
    made = Crew()
    monkeypatch.setattr(WorkerPool, "plan", made.plan)
    monkeypatch.setattr(study_run, "REFRESH_SECONDS", 0.0)
    return made


@pytest.fixture
def ran(tmp_path, capsys):
    """Runs the study in this process; returns exit status, standard output and standard error."""
    (tmp_path / "mine.yaml").write_text(STUDY)

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["run", str(tmp_path / "mine.yaml"), *arguments])
        return int(ended.value.code or 0), *capsys.readouterr()

    return command


def test_a_study_that_all_workers_left_says_where_to_look(crew, ran, tmp_path):
    status, _, err = ran()
    assert status == 1
    assert err == (
        f"error: study mine has not ended but no worker is left: see {tmp_path / 'hpo-output' / 'logs'}, "
        "mend the cause, then run the same command again\n"
    )


def test_what_becomes_of_workers_is_told(crew, ran):
    crew.at_look = {1: lambda: "worker cpu0 ended with status 1"}
    assert "worker cpu0 ended with status 1\n" in ran()[1]


def test_a_quiet_run_says_nothing_but_its_errors(crew, ran):
    crew.at_look = {1: lambda: "worker cpu0 ended with status 1"}
    status, out, err = ran("--quiet")
    assert (status, out) == (1, "")
    assert err.startswith("error: study mine has not ended but no worker is left: ")


def test_a_verbose_run_says_what_workers_log(crew, ran):
    assert "cpu0: line " not in ran()[1]
    crew.looks = 3
    assert "cpu0: line 2\n" in ran("-v")[1]


def test_a_run_is_quiet_or_verbose(crew, ran):
    assert ran("-q", "-v") == (2, "", "error: --quiet and --verbose contradict each other: choose one\n")


def test_what_workers_are_busy_with_is_told_once(crew, ran):
    service = Service(Settings.read())

    def beat() -> str:
        with service.db.transaction():
            service.worker_rows.register("w", "node", 1, "0.1.0", "cpu")
            service.worker_rows.beat("w", "pre-training the small model (40%)")
        return ""

    crew.looks, crew.at_look = 4, {3: beat, 2: beat}
    _, out, _ = ran()
    service.db.dispose()
    assert out.count("pre-training the small model (40%)") == 1


def test_a_database_that_goes_away_meanwhile_is_told_and_waited_for(crew, ran, monkeypatch):
    snapshots = iter([True, False, True, True])
    real = StudyWatch.snapshot

    def snapshot(self: StudyWatch, study: str):
        if next(snapshots):
            return real(self, study)
        raise DatabaseUnavailableError("the database is away")

    monkeypatch.setattr(StudyWatch, "snapshot", snapshot)
    crew.looks = 2
    status, out, _ = ran()
    assert status == 1
    assert "the database is away; the workers go on\n" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on_as_the_order_to_leave(crew, ran, number):
    crew.at_look = {1: lambda: signal.raise_signal(number)}
    status, out, err = ran()
    assert status == 130
    assert crew.signals == [signal.SIGTERM]
    assert crew.waited == study_run.DRAIN_SECONDS
    assert "stopping: running trials save a checkpoint" in out
    assert err == "Interrupted: 0 trials of search are done and kept. Run the same command again to go on.\n"


def test_with_json_an_interrupted_study_is_printed_as_it_stands(crew, ran):
    crew.at_look = {1: lambda: signal.raise_signal(signal.SIGINT)}
    status, out, _ = ran("--json")
    assert status == 130
    document = json.loads(out)
    assert (document["name"], document["state"]) == ("mine", "active")
    assert document["stages"][0]["counts"] == {}


def test_the_second_signal_leaves_workers_little_time(crew, ran):
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    crew.at_look = {1: twice}
    status, out, _ = ran()
    assert status == 130
    assert len(crew.signals) == 2
    assert crew.waited < study_run.DRAIN_SECONDS
    assert "stopping at once" in out


def test_workers_that_had_to_be_ended_are_told_of(crew, ran):
    crew.leaves_in_time = False
    assert "workers that did not leave in time were ended" in ran()[1]


def test_an_interruption_while_the_database_is_away_is_an_interruption(crew, ran, monkeypatch):
    real, first = StudyWatch.snapshot, iter([True])

    def snapshot(self: StudyWatch, study: str):
        if next(first, False):
            return real(self, study)
        raise DatabaseUnavailableError("the database is away")

    monkeypatch.setattr(StudyWatch, "snapshot", snapshot)
    crew.at_look = {1: lambda: signal.raise_signal(signal.SIGINT)}
    assert ran()[0] == 130


def test_under_nohup_a_closed_terminal_means_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        heard: list[int] = []
        with run.Interrupts(lambda: heard.append(1)):
            signal.raise_signal(signal.SIGHUP)
            assert len(heard) == 0
            signal.raise_signal(signal.SIGTERM)
            assert len(heard) == 1
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_cancelled_study_is_not_worked_on(crew, ran):
    ran()
    service = Service(Settings.read())
    service.studies.steer("mine", StudyState.CANCELLED, "wrong data")
    service.db.dispose()
    status, _, err = ran()
    assert status == 4
    assert err.startswith("error: study mine is cancelled (wrong data): `hpo-service study resume mine`")


def test_with_json_nothing_but_errors_is_said_on_the_way(crew, ran):
    crew.at_look = {1: lambda: "worker cpu0 ended with status 1"}
    status, out, err = ran("--json")
    assert (status, out) == (1, "")
    assert err.startswith('{"error": {"type": "HpoServiceError"')


@pytest.fixture
def errors_found(monkeypatch):
    """A look that finds two errors; returns how often it was asked."""
    looks = []
    found = [
        Finding(level="error", subject="data", what="no text", where="rows.jsonl, line 4"),
        Finding(level="error", subject="model", what="no end"),
        Finding(level="warning", subject="model", what="slow"),
    ]
    monkeypatch.setattr(study_file, "first_look", lambda spec: looks.append(spec.name) or found)
    return looks


def test_a_study_whose_every_trial_would_fail_is_not_begun(crew, ran, errors_found):
    status, out, err = ran()
    assert (status, out) == (2, "looking at rows and models\n")
    assert err == "warning: slow\nerror: rows.jsonl, line 4: no text\nerror: no end\n"
    status, out, err = ran("--json")
    assert (status, out) == (2, "")
    assert len(json.loads(err)["error"]["findings"]) == 3
    assert crew.looks == 3, "no worker was started"
    assert errors_found == ["mine", "mine"], "there is no study yet, so that a mended file may have the same name"


def test_a_study_that_has_begun_is_not_looked_at_again(crew, ran, errors_found):
    assert ran("--quick")[0] == ran()[0] == 1
    assert errors_found == []
