"""Every command as people and scripts meet it: answers, plain data, refusals and their exit statuses."""

from __future__ import annotations

import csv
import gc
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import make_url, text

from hpo_service import cli
from hpo_service.bootstrap import Service
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.settings import DATABASE_FILE, Settings
from hpo_service.storage import schema
from tests.acceptance.home import OBJECTIVE, OWN, Home

NO_SERVER = "postgresql://hpo:secret@127.0.0.1:9/hpo?password=secret"


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def command(capsys):
    """Runs a command in this process."""

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        return Answer(int(ended.value.code or 0), *capsys.readouterr())

    return run


def refusal(answer: Answer) -> str:
    """The one line of an expected error."""
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err
    return answer.err


@pytest.fixture
def service(tmp_path) -> Iterator[Service]:
    """What the commands of this test talk to."""
    made = Service(Settings.read())
    yield made
    made.db.dispose()


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(OWN.format(name="mine", trials=4))
    return str(path)


@pytest.fixture
def mine(command, study_file, migrated_file) -> str:
    """A study without workers, in a database that has the schema already."""
    folder = Settings.read().output
    folder.mkdir()
    shutil.copy(migrated_file, folder / DATABASE_FILE)
    assert command("study", "create", study_file).status == 0
    return "mine"


@pytest.fixture
def held(mine, service):
    """A worker, `node-1-aa`, that holds trial 0 of the study."""
    with service.db.transaction():
        service.worker_rows.register("node-1-aa", "node", 1, "0.1.0", "cpu")
    assignment = service.queue.claim("node-1-aa", mine)
    assert assignment is not None
    return assignment


# help


def leaves(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = getattr(command, "commands", None)
    if not inner:
        return [path]
    own = [path] if getattr(command, "invoke_without_command", False) and path else []
    return own + [leaf for name, sub in inner.items() for leaf in leaves(sub, (*path, name))]


COMMANDS = leaves(typer.main.get_command(cli.app))


def test_the_commands_are_these():
    assert {" ".join(path) for path in COMMANDS} >= {
        "run",
        "report",
        "data report",
        "doctor",
        "worker",
        "worker list",
        "worker drain",
        "export",
        "train",
        "merge",
        "push",
        *(f"db {name}" for name in ("upgrade", "current", "check")),
        *(f"trial {name}" for name in ("show", "stop", "retry")),
        *(f"study {name}" for name in ("create", "list", "show", "export", "validate", "schema")),
        *(f"study {name}" for name in ("pause", "resume", "drain", "cancel", "delete")),
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_ends_with_examples_of_it(path, command):
    answer = command(*path, "--help")
    assert command(*path, "-h").out == answer.out
    assert answer.status == 0
    assert f"hpo-service {' '.join(path)}" in answer.out.rpartition("Examples:")[2]


# studies


def test_a_study_is_created_listed_and_shown(mine, command):
    listed = command("study", "list")
    assert "mine" in listed.out
    assert "active" in listed.out
    assert "0/4" in listed.out
    shown = command("study", "show", mine)
    assert shown.status == 0
    assert shown.out.startswith("0 of 4 trials of search have ended; waiting for a worker.")


def test_studies_are_plain_data_too(mine, command):
    [study] = command("study", "list", "--json").json
    assert (study["name"], study["state"], study["stage"], study["trials_budget"]) == ("mine", "active", "search", 4)
    shown = command("study", "show", mine, "--json").json
    assert shown["spec"]["search"]["budget"]["trials"] == 4
    assert [stage["stage"] for stage in shown["stages"]] == ["search"]


def test_creating_the_very_same_study_again_changes_nothing(mine, study_file, command):
    again = command("study", "create", study_file, "--json")
    assert again.status == 0
    assert (again.json["name"], again.json["state"]) == ("mine", "active")
    assert len(command("study", "list", "--json").json) == 1


def test_another_study_of_the_same_name_is_refused_with_what_differs(mine, study_file, tmp_path, command):
    (tmp_path / "mine.yaml").write_text(OWN.format(name="mine", trials=5))
    refused = command("study", "create", study_file)
    assert refused.status == 4
    assert "differs in search.budget.trials" in refused.err
    assert "hpo-service study delete mine" in refused.err


def test_a_study_is_paused_resumed_drained_and_cancelled_with_a_reason(mine, command):
    for name, state in (("pause", "paused"), ("resume", "active"), ("drain", "draining"), ("cancel", "cancelled")):
        answer = command("study", name, mine, "--reason", f"why {name}")
        assert (answer.status, answer.out) == (0, f"study mine is {state}\n")
        [study] = command("study", "list", "--json").json
        assert (study["state"], study["reason"]) == (state, f"why {name}")


def test_what_a_study_s_state_does_not_allow_is_a_conflict(mine, command):
    command("study", "cancel", mine)
    for name in ("pause", "drain"):
        refused = command("study", name, mine)
        assert refused.status == 4
        assert "study mine is cancelled: it cannot become" in refusal(refused)


def test_deleting_asks_first(mine, command, monkeypatch):
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert command("study", "delete", mine).status == 1
    assert len(command("study", "list", "--json").json) == 1


def test_a_deleted_study_is_gone(mine, command):
    assert command("study", "delete", mine, "--yes").out == "study mine is deleted\n"
    assert command("study", "list", "--json").json == []


def test_a_study_with_running_trials_is_not_deleted(mine, held, command):
    refused = command("study", "delete", mine, "--yes")
    assert refused.status == 4
    assert "1 running trial" in refusal(refused)
    assert "study cancel mine" in refused.err


def test_resuming_a_failed_study_queues_its_failed_trials_again(mine, service, command):
    with service.db.transaction():
        service.worker_rows.register("w", "node", 1, "0.1.0", "cpu")
    for _ in range(3):
        assignment = service.queue.claim("w", mine)
        assert assignment is not None
        service.queue.finish(assignment.lease, Outcome(kind=OutcomeKind.ERROR, reason="no such row", retryable=False))
    assert service.stages.advance_all()
    assert service.reader.snapshot(mine).state is StudyState.FAILED

    assert command("study", "resume", mine).out == "study mine is active\n"
    search = service.reader.snapshot(mine).current
    assert [trial.state for trial in search.trials] == [TrialState.WAITING] * 3
    assert not service.stages.advance_all()


def test_a_study_of_another_version_is_one_line_in_the_list_and_one_line_alone(mine, service, command):
    with service.db.transaction():
        row = service.study_rows.get(mine)
        values = {"spec": {**row.spec, "hyperdrive": True}}
        service.db.connection.execute(schema.study.update().where(schema.study.c.id == row.id).values(values))
    [study] = command("study", "list", "--json").json
    assert study["state"] == "unreadable"
    assert "unreadable" in command("study", "list").out
    for alone in (("study", "show", mine), ("report", mine)):
        refused = command(*alone)
        assert refused.status == 6
        assert "study mine was made by another version of hpo-service" in refusal(refused)


def test_a_study_is_exported_as_tables(mine, held, service, command, tmp_path):
    service.queue.finish(held.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="done", value=1.0))
    files = command("study", "export", mine, "--to", str(tmp_path / "to"), "--format", "csv", "--json").json["files"]
    assert [Path(file).name for file in files] == ["trials.csv", "curves.csv", "attempts.csv", "scores.csv"]
    with Path(files[0]).open(newline="") as table:
        [trial] = csv.DictReader(table)
    assert (trial["stage"], trial["number"], trial["value"]) == ("search", "0", "1.0")
    assert command("study", "export", mine, "--to", str(tmp_path / "to")).out.split() == [
        str(tmp_path / "to" / f"{name}.parquet") for name in ("trials", "curves", "attempts", "scores")
    ]


# trials


def test_a_trial_is_shown_with_all_that_is_kept_of_it(mine, held, service, command):
    service.queue.report(held.lease, Report(step=1, fraction=0.5, value=2.0, metrics={"train_loss": 2.5}))
    facts = {"seed": 3, "versions": "torch 2"}
    service.queue.finish(held.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="all done", value=1.5, facts=facts))
    shown = " ".join(command("trial", "show", mine, "search/0").out.split())
    assert "mine/search #0 complete value 1.5000 reason all done" in shown
    assert "step done value train loss" in shown
    assert "1 50% 2.0000 2.5" in shown
    assert "1 complete" in shown
    assert "seed 3 versions torch 2" in shown
    document = command("trial", "show", mine, "0", "--json").json
    assert (document["value"], document["facts"], document["perplexity"]) == (1.5, facts, None)
    assert document["attempts"][0]["outcome"] == "complete"
    missing = command("trial", "show", mine, "verify/0")
    assert (missing.status, "stage mine/verify has not been opened" in refusal(missing)) == (3, True)
    assert command("trial", "show", mine, "verify").status == 2


def test_a_running_trial_is_stopped_at_its_next_report(mine, held, command):
    answer = command("trial", "stop", mine, "0", "--reason", "diverging")
    assert answer.out == "trial mine/search #0 will stop at its next report or heartbeat\n"
    [trial] = command("study", "show", mine, "--json").json["stages"][0]["trials"]
    assert trial["state"] == "running"


def test_a_stopped_trial_is_retried_and_a_waiting_one_is_stopped_at_once(mine, held, service, command):
    service.queue.finish(held.lease, Outcome(kind=OutcomeKind.CANCELLED, reason="stopped"))
    again = command("trial", "retry", mine, "0")
    assert (again.status, again.out) == (0, "trial mine/search #0 waits to be taken up again\n")
    assert service.reader.snapshot(mine).current.trials[0].state is TrialState.WAITING
    taken = service.queue.claim("node-1-aa", mine)
    assert taken is not None
    service.queue.finish(taken.lease, Outcome(kind=OutcomeKind.RELEASED, reason="the node goes down"))
    stopped = command("trial", "stop", mine, str(taken.number))
    assert stopped.out == f"trial mine/search #{taken.number} is cancelled\n"


def test_trials_that_cannot_be_stopped_or_retried_are_conflicts(mine, held, service, command):
    assert "only failed or cancelled" in refusal(command("trial", "retry", mine, "0"))
    service.queue.finish(held.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="done", value=1.0))
    refused = command("trial", "stop", mine, "0")
    assert refused.status == 4
    assert "is complete: there is nothing to stop" in refusal(refused)


def test_a_trial_or_stage_that_is_not_there_is_not_found(mine, held, command):
    assert command("trial", "stop", mine, "7").status == 3
    missing = command("trial", "stop", mine, "0", "--stage", "verify")
    assert missing.status == 3
    assert "stage mine/verify has not been opened" in refusal(missing)
    assert command("trial", "stop", mine, "-1").status == 2


# workers


def test_workers_are_listed_for_people_and_for_machines(mine, held, command):
    assert "node-1-aa" in command("worker", "list").out
    [worker] = command("worker", "list", "--json").json
    assert (worker["id"], worker["state"], worker["host"]) == ("node-1-aa", "active", "node")


def test_a_worker_is_told_to_drain(mine, held, service, command):
    answer = command("worker", "drain", "node-1-aa", "--reason", "service of the node")
    assert answer.out == "worker node-1-aa will give its trials back and exit\n"
    assert service.queue.renew("node-1-aa", {}).draining
    assert command("worker", "list", "--json").json[0]["reason"] == "service of the node"


def test_a_worker_that_is_not_there_is_not_found_with_the_nearest(mine, held, command):
    missing = command("worker", "drain", "node-1-ab")
    assert missing.status == 3
    assert "did you mean node-1-aa?" in refusal(missing)


# names


@pytest.mark.parametrize(
    "arguments",
    [
        ("study", "show", "mime"),
        ("study", "export", "mime", "--to", "tables"),
        ("study", "pause", "mime"),
        ("trial", "show", "mime", "0"),
        ("study", "resume", "mime"),
        ("study", "drain", "mime"),
        ("study", "cancel", "mime"),
        ("study", "delete", "mime", "--yes"),
        ("study", "delete", "mime"),
        ("trial", "stop", "mime", "0"),
        ("trial", "retry", "mime", "0"),
        ("worker", "--study", "mime"),
        ("report", "mime"),
    ],
    ids=" ".join,
)
def test_a_study_that_is_not_there_is_not_found_with_the_nearest(arguments, mine, command):
    missing = command(*arguments)
    assert missing.status == 3
    assert "there is no study 'mime' (did you mean mine?)" in refusal(missing)


def test_with_json_a_refusal_is_an_object(mine, command):
    error = json.loads(command("study", "show", "mime", "--json").err)["error"]
    assert (error["type"], error["exit_code"]) == ("NotFoundError", 3)


# the database


EVERYWHERE = [
    ("study", "list"),
    ("study", "show", "mine"),
    ("study", "pause", "mine"),
    ("trial", "stop", "mine", "0"),
    ("worker", "list"),
    ("worker", "drain", "w"),
    ("worker", "--study", "mine"),
    ("report", "mine"),
    ("db", "upgrade"),
    ("db", "current"),
    ("db", "check"),
]


@pytest.mark.parametrize("arguments", [*EVERYWHERE, ("run", "FILE"), ("study", "create", "FILE")], ids=" ".join)
def test_a_database_that_is_away_is_one_line_within_seconds_without_its_password(arguments, study_file, command):
    began = time.monotonic()
    refused = command(*(study_file if word == "FILE" else word for word in arguments), "--storage", NO_SERVER)
    assert refused.status == 5
    assert time.monotonic() - began < 10
    error = refused.err.splitlines()[-1]
    assert error.startswith("error: the database postgresql+psycopg://hpo:***@127.0.0.1:9/hpo?password=***")
    assert "check that it runs" in error
    assert "secret" not in refused.out + refused.err


@pytest.mark.parametrize("arguments", EVERYWHERE[:6], ids=" ".join)
def test_an_empty_database_says_how_to_make_the_tables(arguments, command):
    refused = command(*arguments)
    assert refused.status == 6
    assert "run `hpo-service db upgrade`" in refusal(refused)


def test_the_schema_is_made_named_and_checked(command):
    assert command("db", "current").out == "empty: run `hpo-service db upgrade`\n"
    assert command("db", "check").status == 6
    upgraded = command("db", "upgrade")
    assert upgraded.status == 0
    revision = command("db", "current", "--json").json["revision"]
    assert upgraded.out.endswith(f" is at revision {revision}\n")
    assert command("db", "current").out == f"{revision}\n"
    assert command("db", "check").out.endswith(" fits this version\n")
    assert command("db", "upgrade").out == upgraded.out


@pytest.mark.parametrize("arguments", [("db", "check"), ("db", "upgrade"), ("worker", "--study", "mine")], ids=" ".join)
def test_a_schema_of_a_newer_version_is_left_alone(arguments, mine, service, command):
    change(service, "UPDATE hpo_alembic_version SET version_num = '9999'")
    refused = command(*arguments)
    assert refused.status == 6
    assert "newer hpo-service (revision 9999" in refusal(refused)


def test_a_schema_that_was_changed_by_hand_is_found(mine, service, command):
    change(service, "ALTER TABLE hpo_trial ADD COLUMN note TEXT")
    refused = command("db", "check")
    assert refused.status == 6
    assert "note" in refusal(refused)


def change(service: Service, statement: str) -> None:
    with service.db.transaction():
        service.db.connection.execute(text(statement))


@pytest.mark.parametrize("url", ["nonsense", "mysql://me:secret@db/x", "sqlite://"])
def test_a_storage_url_of_another_kind_is_wrong_usage(url, command):
    refused = command("study", "list", "--storage", url)
    assert refused.status == 2
    assert "sqlite:///FILE" in refusal(refused)
    assert "secret" not in refused.err


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a command leaves its connection to the end of its process
def test_the_password_of_a_database_that_answers_is_never_printed(postgres_database, study_file, command):
    url = make_url(postgres_database).set(password="secret").render_as_string(hide_password=False)
    for arguments in (
        ("db", "upgrade"),
        ("db", "current", "--json"),
        ("db", "check"),
        ("study", "create", study_file, "--json"),
        ("study", "list"),
        ("doctor",),
        ("doctor", "--json"),
    ):
        answer = command(*arguments, "--storage", url)
        assert answer.status == 0, answer
        assert "secret" not in answer.out + answer.err
    gc.collect()


# doctor


def test_the_doctor_looks_at_everything_and_changes_nothing_it_finds_empty(command):
    answer = command("doctor", "--json")
    assert answer.status == 0
    found = {finding["what"]: finding for finding in answer.json}
    assert {"python", "manager", "trainer", "database", "schema", "output folder", "cache folder"} <= set(found)
    assert found["schema"]["level"] == "warning"
    assert "db upgrade" in found["schema"]["detail"]
    people = command("doctor").out
    assert "python" in people
    assert "torch" in people


def test_the_doctor_goes_on_where_the_database_is_away_and_says_so_by_its_status(command):
    answer = command("doctor", "--json", "--storage", NO_SERVER)
    assert answer.status == 1
    broken = [finding for finding in answer.json if finding["level"] == "error"]
    assert [finding["what"] for finding in broken] == ["database"]
    assert "secret" not in answer.out + answer.err
    assert any(finding["what"] == "cache folder" for finding in answer.json)


def test_the_doctor_finds_a_schema_that_does_not_fit(mine, service, command):
    change(service, "UPDATE hpo_alembic_version SET version_num = '9999'")
    answer = command("doctor")
    assert answer.status == 1
    assert "newer hpo-service" in answer.out


def test_the_doctor_finds_a_folder_that_cannot_be_written(tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    answer = command("doctor", "--json", "--output", str(tmp_path / "file"), "--storage", f"sqlite:///{tmp_path}/x.db")
    assert answer.status == 1
    assert [f["what"] for f in answer.json if f["level"] == "error"] == ["output folder"]


# a study that workers elsewhere finished


@pytest.fixture(scope="module")
def worked(tmp_path_factory) -> Iterator[Home]:
    """A folder in which a study was created, and a worker was started that left when it had ended."""
    home = Home(tmp_path_factory.mktemp("worked"))
    (home.folder / "objective_of_the_test.py").write_text(OBJECTIVE)
    (home.folder / "mine.yaml").write_text(OWN.format(name="mine", trials=4))
    assert home.run("study", "create", "mine.yaml").returncode == 0
    done = home.run("worker", "--study", "mine", "--until-finished")
    assert done.returncode == 0, done.stderr
    yield home
    home.clear()


def test_a_worker_works_until_the_study_has_ended_and_signs_off(worked, command):
    assert worked.snapshot("mine").state is StudyState.FINISHED
    assert [len(stage.trials) for stage in worked.snapshot("mine").stages] == [4, 4]
    [worker] = command("worker", "list", "--json", "--storage", worked.storage).json
    assert (worker["state"], worker["reason"]) == ("stopped", "left of its own accord")


def test_a_worker_on_a_finished_study_leaves_at_once_and_adds_nothing(worked):
    before = worked.snapshot("mine").stages
    assert worked.run("worker", "--study", "mine", "--until-finished").returncode == 0
    assert worked.snapshot("mine").stages == before


def test_a_worker_for_a_study_that_fails_says_so_with_a_status_of_its_own(mine, service, command):
    with service.db.transaction():
        service.study_rows.set_state(service.study_rows.get(mine).id, StudyState.FAILED, "3 of 3 trials failed")
    ended = command("worker", "--study", mine, "--until-finished")
    assert ended.status == 7
    assert "study mine failed: 3 of 3 trials failed; mend the cause, then `hpo-service study resume mine`" in ended.err
    with service.db.transaction():
        service.study_rows.set_state(service.study_rows.get(mine).id, StudyState.CANCELLED, "enough")
    assert command("worker", "--study", mine, "--until-finished").status == 0


def test_report_writes_and_says_what_was_found(worked, tmp_path, command):
    where = ("--storage", worked.storage, "--output", str(tmp_path))
    people = command("report", "mine", *where)
    assert people.status == 0
    assert f"Report  {tmp_path / 'mine' / 'report.html'}" in people.out
    document = command("report", "mine", "--json", *where).json
    assert document["state"] == "finished"
    assert document["stage"] == "confirm"
    assert document["recommended"] == "winner 1"
    assert (tmp_path / "mine" / "best" / "config.yaml").exists()


def test_a_study_without_results_has_a_report_too(mine, command):
    answer = command("report", mine, "--json")
    assert answer.status == 0
    assert answer.json["sentence"] == "nothing was measured yet"


def test_a_finished_study_cannot_be_held(worked, command):
    for name in ("pause", "drain", "cancel", "resume"):
        refused = command("study", name, "mine", "--storage", worked.storage)
        assert refused.status == 4
        assert "study mine is finished" in refusal(refused)


def test_a_closed_stage_takes_no_trial_back(worked, command):
    refused = command("trial", "stop", "mine", "0", "--stage", "confirm", "--storage", worked.storage)
    assert refused.status == 4
    assert "is complete: there is nothing to stop" in refusal(refused)


def test_a_worker_leaves_after_the_trials_it_was_asked_for(own_home):
    own_home.run("study", "create", "mine.yaml")
    assert own_home.run("worker", "--study", "mine", "--max-trials", "2").returncode == 0
    assert own_home.snapshot("mine").current.ended == 2
