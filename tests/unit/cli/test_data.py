"""`hpo-service data report`: a child looks at the rows; its answer, or what went wrong, is told in one place."""

import io
import json

import pytest

from hpo_service.cli import main
from hpo_service.cli.study_file import load_study
from hpo_service.domain.study.data_report import DataReport
from hpo_service.service.studies import data_report

PART = {"rows": 80, "tokens": 900, "supervised_tokens": 500, "p50": 9, "p90": 12, "p99": 40, "longest": 99}
PART |= {"truncated": 8, "unsupervised": 0, "groups": 7}
REPORT = {
    "source": "rows.jsonl",
    "format": "sharegpt",
    "learn": "completions",
    "max_length": 32,
    "rows_read": 123,
    "rows_split": 100,
    "leaked": 3,
    "repeated": 2,
    "duplicates": 1,
    "longest_row": "rows.jsonl, line 5",
    "padding_share": 0.1,
    "parts": {"train": PART, "validation": PART, "test": PART},
    "whole": PART,
    "fingerprint": "abc",
}


@pytest.fixture
def study(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")
    path = tmp_path / "study.yaml"
    path.write_text("name: mine\nmodel: {base: some/model}\ndata: {source: rows.jsonl, group: author}\n")
    return path


class Process:
    """Stands in for the child process."""

    def __init__(self, asked, command, status, answer, told):
        self.stdout, self.stderr = io.StringIO(answer), io.StringIO(told)
        self.returncode, self.stdin = status, io.StringIO()
        self.stdin.close = lambda: asked.append((command, json.loads(self.stdin.getvalue())))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def child(monkeypatch):
    """What the child was asked, and what it shall answer."""
    asked, answers = [], []
    monkeypatch.setattr(data_report.subprocess, "Popen", lambda command, **_: Process(asked, command, *answers[-1]))
    return asked, answers


def call(*arguments, command="report"):
    with pytest.raises(SystemExit) as ended:
        main(["data", command, *map(str, arguments)])
    return ended.value.code


def test_people_get_tables_and_warnings(study, child, capsys):
    asked, answers = child
    answers.append((0, json.dumps({"report": REPORT}), ""))
    assert call(study) == 0
    command, request = asked[0]
    assert command[1:] == ["-m", "hpo_service.training.data.report"]
    assert request["data"]["source"] == str(study.parent / "rows.jsonl")
    assert request["model"]["base"] == "some/model"
    shown = capsys.readouterr().out
    for text in ("sharegpt; the loss is taken on completions", "123 read, 100 used", "groups", "10.0%", "line 5"):
        assert text in shown
    assert "warning: 10% of the rows are cut to 32 tokens" in shown


def test_the_child_is_heard_while_it_is_at_work(study, child, tmp_path):
    told = []
    child[1].append((0, json.dumps({"report": REPORT}), "pre-training (20%)\n\ntokenising (50%)\n"))
    data_report.report_data(load_study(study, warn=False), tmp_path, tell=told.append)
    assert told == ["pre-training (20%)", "pre-training (20%)", "tokenising (50%)"]


def test_machines_get_one_document(study, child, capsys):
    child[1].append((0, json.dumps({"report": REPORT}), ""))
    assert call(study, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert DataReport.model_validate({k: v for k, v in document.items() if k != "warnings"}).whole.p99 == 40
    assert len(document["warnings"]) == 1


@pytest.mark.parametrize(
    "answer, code, message",
    [
        (
            (1, '{"error": "rows.jsonl, line 3 is not valid JSON"}', ""),
            1,
            "error: rows.jsonl, line 3 is not valid JSON",
        ),
        ((137, "", ""), 1, "error: the data report ended with status 137: it wrote nothing"),
        (
            (1, "", "Traceback\nModuleNotFoundError: No module named 'torch'\n"),
            1,
            "error: the data report ended with status 1: ModuleNotFoundError: No module named 'torch'; "
            "pip install 'hpo-service[train]'",
        ),
    ],
    ids=["data", "killed", "no trainer"],
)
def test_what_went_wrong_is_one_line(study, child, capsys, answer, code, message):
    child[1].append(answer)
    assert call(study) == code
    assert capsys.readouterr().err.strip() == message


def test_an_objective_of_ones_own_has_no_data_to_report_on(tmp_path, child, capsys):
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: mine\nobjective: {python: 'a:b'}\nspace: {parameters: {x: {low: 0.0, high: 1.0}}}\n"
        "search: {budget: {trials: 20}}\n"
    )
    assert call(path) == 2
    assert "study mine has an objective of its own" in capsys.readouterr().err
    assert child[0] == []


SHOWN = {
    "origin": "rows.jsonl, line 1",
    "format": "messages",
    "tokens_uncut": 9,
    "pieces": [
        {"text": "<user>hi</user>[bold]", "learned": False, "tokens": 4},
        {"text": "hello", "learned": True, "tokens": 2},
    ],
}


def test_rows_are_shown_with_marks_around_what_is_learned(study, child, capsys):
    asked, answers = child
    answers.append((0, json.dumps({"shown": [SHOWN, {**SHOWN, "tokens_uncut": 6}]}), ""))
    assert call(study, "--rows", "2", command="show") == 0
    assert asked[0][1]["show"] == 2
    assert capsys.readouterr().out == (
        "rows.jsonl, line 1 (messages): 6 tokens, cut from 9, 2 learned\n<user>hi</user>[bold][[hello]]\n"
        "\nrows.jsonl, line 1 (messages): 6 tokens, 2 learned\n<user>hi</user>[bold][[hello]]\n"
    )


def test_on_a_terminal_what_is_learned_has_a_colour(study, child, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    child[1].append((0, json.dumps({"shown": [SHOWN]}), ""))
    assert call(study, command="show") == 0
    out = capsys.readouterr().out
    assert "\x1b[1;32mhello\x1b[0m" in out
    assert "[[" not in out


def test_machines_get_the_pieces_of_rows(study, child, capsys):
    child[1].append((0, json.dumps({"shown": [SHOWN]}), ""))
    assert call(study, "--json", command="show") == 0
    assert json.loads(capsys.readouterr().out) == {"rows": [SHOWN]}


def test_rows_that_cannot_be_shown_are_one_line(study, child, capsys):
    child[1].append((1, '{"error": "rows.jsonl, line 1: column \'prompt\' is missing"}', ""))
    assert call(study, command="show") == 1
    assert capsys.readouterr().err == "error: rows.jsonl, line 1: column 'prompt' is missing\n"
