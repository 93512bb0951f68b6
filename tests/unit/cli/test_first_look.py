"""`study validate`, `study create` and `run` look at rows and models before the first trial and tell what is wrong."""

import json
from dataclasses import dataclass, field

import pytest

from hpo_service.bootstrap import Service
from hpo_service.cli import main, study_file
from hpo_service.domain.study.finding import Finding
from hpo_service.settings import Settings

ERRORS = [
    Finding(level="error", subject="data", what="column 'prompt' must be text, not a int", where="rows.jsonl, line 4"),
    Finding(level="error", subject="model", what="model some/model knows no token 259"),
]
DOUBTS = [
    Finding(level="warning", subject="data", what="40 of 40 rows teach no end"),
    Finding(level="unchecked", subject="model", what="model other/model is not on this machine"),
]
ERROR_LINES = (
    "error: rows.jsonl, line 4: column 'prompt' must be text, not a int\nerror: model some/model knows no token 259\n"
)


@dataclass
class Look:
    """Finds what a test says, and counts how often it was asked."""

    found: list[Finding] = field(default_factory=list)
    looks: int = 0

    def __call__(self, _spec):
        self.looks += 1
        return self.found


@pytest.fixture
def look(monkeypatch):
    made = Look()
    monkeypatch.setattr(study_file, "first_look", made)
    return made


@pytest.fixture
def call(tmp_path, capsys):
    """Runs a command on a study file; returns exit status, standard output and standard error."""
    (tmp_path / "mine.yaml").write_text("name: mine\nmodel: {base: some/model}\ndata: {source: some/data}\n")

    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*arguments[:2], str(tmp_path / "mine.yaml"), *arguments[2:]])
        return int(ended.value.code or 0), *capsys.readouterr()

    return command


@pytest.fixture
def studies():
    """The names of the studies in the database."""
    service = Service(Settings.read())
    yield lambda: service.upgrade() or [each.snapshot.name for each in service.overview.lines().lines]
    service.db.dispose()


def test_validate_tells_every_error_and_every_doubt(look, call):
    look.found = [*ERRORS, *DOUBTS]
    status, out, err = call("study", "validate")
    assert (status, err) == (2, ERROR_LINES)
    assert "warning: 40 of 40 rows teach no end\nnote: model other/model is not on this machine\n" in out
    assert "is valid" not in out


def test_validate_counts_warnings_of_rows_too_and_notes_leave_the_study_valid(look, call):
    look.found = DOUBTS
    status, out, err = call("study", "validate")
    assert (status, err) == (0, "")
    assert out.endswith("mine.yaml is valid, warnings: 1\n")


def test_validate_gives_machines_all_of_them(look, call):
    look.found = [*ERRORS, *DOUBTS]
    status, out, err = call("study", "validate", "--json")
    assert status == 2
    for findings in (json.loads(out)["findings"], json.loads(err)["error"]["findings"]):
        assert [each["level"] for each in findings] == ["error", "error", "warning", "unchecked"]
    assert json.loads(err)["error"]["type"] == "UnusableInputsError"


@pytest.mark.parametrize("command", [("study", "validate"), ("study", "create")], ids=" ".join)
def test_quick_does_not_look(look, call, command):
    look.found = ERRORS
    assert call(*command, "--quick")[0] == 0
    assert look.looks == 0


def test_a_study_that_would_fail_is_not_created(look, call, studies):
    look.found = [*ERRORS, *DOUBTS]
    status, out, err = call("study", "create")
    assert (status, out) == (2, "")
    assert err == f"warning: {DOUBTS[0]}\nnote: {DOUBTS[1]}\n{ERROR_LINES}"
    assert studies() == []


def test_a_study_that_is_there_is_not_looked_at_again(look, call, studies):
    look.found = DOUBTS
    assert call("study", "create")[0] == 0
    status, _, err = call("study", "create")
    assert (status, err, look.looks) == (0, "", 1)
    assert studies() == ["mine"]
