"""`events` and `query` on a small database: what they print, where it goes, and one line for what is wrong."""

from __future__ import annotations

import importlib
import json

import pytest
from pyarrow import parquet

from hpo_service import cli
from hpo_service.bootstrap import Service
from hpo_service.domain.decide.placement import Resources
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.errors import DatabaseUnavailableError
from hpo_service.service.events import Follower
from hpo_service.settings import Settings

commands = importlib.import_module("hpo_service.cli.records.events")
NAMES = "SELECT study FROM v_studies"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0)


@pytest.fixture
def service(migrated_sqlite, monkeypatch):
    monkeypatch.setenv("HPO_SERVICE_STORAGE", migrated_sqlite)
    service = Service(Settings.read())
    service.studies.create(
        StudySpec.model_validate(
            {
                "name": "mine",
                "objective": {"python": "nobody:calls_it"},
                "space": {"parameters": {"x": {"low": 0.0, "high": 1.0}}},
            }
        ),
        by="ann@desk",
    )
    service.workers.register("w1", Resources())
    trial = service.queue.claim("w1")
    service.queue.finish(trial.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=1.5))
    yield service
    service.db.dispose()


def test_events_are_a_line_each(service, capsys):
    assert run("events", "mine") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "mine  study created: created (by ann@desk)",
        "mine search  stage opened: gp proposes, early_exit prunes",
        "mine search #0  trial claimed: taken by w1",
        "mine search #0  trial complete: measured (w1)",
    ]


def test_events_of_a_trial_a_worker_or_the_last_few(service, capsys):
    run("events", "mine", "--trial", "0", "--json")
    assert [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()] == [
        "trial_claimed",
        "trial_complete",
    ]
    run("events", "--worker", "w1", "--last", "1", "--json")
    assert [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()] == ["trial_complete"]


@pytest.mark.parametrize(
    "arguments, exit_code, said",
    [
        (["events", "none"], 3, "there is no study 'none'"),
        (["events", "--trial", "search/1"], 2, "name the study first"),
        (["events", "mine", "--trial", "nowhere/1"], 2, "names no trial"),
        (["query"], 2, "give one query"),
        (["query", NAMES, "--file", "x.sql"], 2, "give one query"),
        (["query", "DROP TABLE hpo_study"], 2, "only reads"),
        (["query", NAMES, "--format", "parquet"], 2, "--output FILE"),
        (["query", NAMES, "--output", "a.xls"], 2, "a.xls: its ending names no format"),
        (["query", "--file", "/none.sql"], 2, "/none.sql: No such file"),
    ],
)
def test_what_is_wrong_is_one_line(service, capsys, arguments, exit_code, said):
    assert run(*arguments) == exit_code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_followed_events_come_once_and_go_on_when_the_database_comes_back(service, capsys, monkeypatch):
    looks = iter(["nothing", "away", "away", "claim", "stop"])

    def wait(_seconds):
        look = next(looks)
        if look == "claim":
            service.queue.claim("w1")
        if look == "stop":
            raise KeyboardInterrupt

    read = Follower.next
    away = iter([False, False, True, True, False, False])

    def next_events(follower):
        if next(away):
            raise DatabaseUnavailableError("the database is not available")
        return read(follower)

    monkeypatch.setattr(commands.time, "sleep", wait)
    monkeypatch.setattr(Follower, "next", next_events)
    assert run("events", "mine", "--follow", "--last", "1", "--json") == 0
    out, err = capsys.readouterr()
    told = [(event["kind"], event["number"]) for event in map(json.loads, out.splitlines())]
    assert told == [("trial_complete", 0), ("trial_claimed", 1)]
    assert err.count("not available") == 1


def test_a_query_is_a_table_csv_or_json(service, capsys, tmp_path, monkeypatch):
    run("query", NAMES)
    assert capsys.readouterr().out == "study\n-----\nmine\n"
    run("query", NAMES, "--format", "csv")
    assert capsys.readouterr().out == "study\nmine\n"
    run("query", NAMES, "--json")
    assert json.loads(capsys.readouterr().out) == [{"study": "mine"}]
    (tmp_path / "q.sql").write_text(f"-- which?\n{NAMES};\n")
    run("query", "--file", str(tmp_path / "q.sql"), "--format", "csv")
    assert capsys.readouterr().out == "study\nmine\n"


def test_a_query_file_that_is_no_text_is_wrong_usage(service, capsys, tmp_path):
    (tmp_path / "q.sql").write_bytes(b"\xff")
    assert run("query", "--file", str(tmp_path / "q.sql")) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/q.sql: is not UTF-8 text; save it as UTF-8\n"


def test_the_ending_of_a_file_says_the_format(service, tmp_path):
    for ending in ("csv", "json", "parquet"):
        assert run("query", NAMES, "--output", str(tmp_path / f"a.{ending}")) == 0
    assert (tmp_path / "a.csv").read_text() == "study\nmine\n"
    assert json.loads((tmp_path / "a.json").read_text()) == [{"study": "mine"}]
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == [{"study": "mine"}]


def test_a_query_that_fails_leaves_the_file_as_it_was(service, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("old")
    assert run("query", "SELECT * FROM nothing", "--output", str(file)) == 2
    assert [path.name for path in tmp_path.glob("a.csv*")] == ["a.csv"]
    assert file.read_text() == "old"


def test_a_table_that_is_cut_says_so_and_csv_is_whole(service, capsys):
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i FROM n"
    run("query", many)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 + 200
    assert "more than these 200 rows" in err
    run("query", many, "--format", "csv")
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (1001, "")
    run("query", many, "--limit", "5", "--format", "csv")
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 6
    assert "more than these 5 rows" in err
