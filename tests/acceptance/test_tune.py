"""From a model and rows to an adapter without a study file to begin with."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest

from hpo_service import cli
from hpo_service.service.studies.study_file import read_study_file
from tests.acceptance.home import Home

SMALL = (
    "--set",
    "search.budget.trials=2",
    "--set",
    "confirm.enabled=false",
    "--set",
    "execution.keep_adapters=1",
    "--set",
    "training.effective_batch=8",
)


@pytest.fixture
def home(family, tmp_path):
    """A folder with a model and rows, and no study file."""
    shutil.copytree(family, tmp_path, dirs_exist_ok=True)
    made = Home(tmp_path)
    yield made
    made.clear()


@pytest.fixture
def command(home, monkeypatch, capsys):
    """Runs a command in this process and that folder; returns its exit status and what it said."""
    monkeypatch.chdir(home.folder)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture
def lora_rows(home, monkeypatch):
    """Rows are not tokenised: what is said of them is not asked for."""
    monkeypatch.setattr("hpo_service.service.studies.drafting._rows", lambda *_: (None, []))
    return home


def test_tune_ends_with_an_adapter_and_keeps_its_study_file(home):
    said = home.run("tune", "./small", "rows.jsonl", "--only", "learning_rate", *SMALL, "--yes")
    assert said.returncode == 0, said.stderr
    file = home.folder / "small-rows.yaml"
    assert "99 of 100 rows have at most" in file.read_text()
    assert [*read_study_file(file).spec.space.resolve().parameters] == ["learning_rate"]
    assert list((home.folder / "hpo-output").glob("**/best/adapter_model.safetensors"))
    again = home.run("tune", "./small", "rows.jsonl", "--only", "learning_rate", *SMALL, "--yes", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["study"] == "small-rows"


def test_init_says_what_it_wrote_and_another_file_is_not_written_over(command, lora_rows):
    status, out, _err = command("init", "./small", "rows.jsonl", "--budget", "20h")
    assert status == 0
    assert "gpu_hours: 20.0" in out
    status, _out, err = command("init", "./small", "rows.jsonl", "--budget", "40")
    assert status == 4
    assert "small-rows.yaml is there already and says something else" in err
    assert command("init", "./small", "rows.jsonl", "--budget", "40", "--overwrite")[0] == 0
    assert read_study_file(lora_rows.folder / "small-rows.yaml").spec.budget.trials == 40


def test_init_answers_machines_and_names_hold_where_the_file_lies(command, lora_rows):
    status, out, _err = command("init", "small", "rows.jsonl", "--file", "mine/study.yaml", "--name", "own", "--json")
    assert status == 0
    answer = json.loads(out)
    assert answer["file"] == "mine/study.yaml"
    assert answer["text"] == (lora_rows.folder / "mine" / "study.yaml").read_text()
    assert read_study_file(lora_rows.folder / "mine" / "study.yaml").spec.model.base == str(lora_rows.folder / "small")


def test_the_command_in_the_file_writes_it_again(command, lora_rows):
    given = ["--only", "learning_rate", "--set", "data.system=It's # short", "--budget", "20h"]
    assert command("init", "./small", "rows.jsonl", *given)[0] == 0
    file = lora_rows.folder / "small-rows.yaml"
    written = file.read_text()
    words = shlex.split(written.splitlines()[0].split("`")[1])
    file.unlink()
    assert command(*words[1:])[0] == 0
    assert file.read_text() == written
    assert read_study_file(file).spec.data.system == "It's # short"


def test_tune_goes_on_with_the_file_that_the_same_command_wrote(command, lora_rows):
    assert command("tune", "./small", "rows.jsonl", *SMALL)[0] == 2, "nobody is there to ask"
    file = lora_rows.folder / "small-rows.yaml"
    changed = file.read_text().replace("trials: 2", "trials: 3")
    file.write_text(changed)
    _status, out, _err = command("tune", "./small", "rows.jsonl", *SMALL)
    assert "is there already, and is gone on with" in out
    assert file.read_text() == changed


def test_tune_asks_nobody_where_nobody_is_there_and_a_quiet_one_says_what_for(command, lora_rows):
    status, out, err = command("tune", "./small", "rows.jsonl", "--set", "data.max_length=64", "--quiet")
    assert status == 2
    assert "small-rows.yaml is written" in out
    assert "each as timed here" in out
    assert "say --yes, or run `hpo-service run small-rows.yaml`" in err


def test_init_asks_nobody_for_names_where_nobody_is_there(command):
    assert command("init", "./small") == (
        2,
        "",
        "error: name the model and the rows, as in `hpo-service init Qwen/Qwen2.5-0.5B rows.jsonl`\n",
    )


@pytest.mark.parametrize(
    "options, said",
    [
        (["--budget", "20 GB"], "--budget 20 GB: write device hours"),
        (["--method", "lorra"], "--method lorra is no method; the nearest is lora"),
        (["--set", "epochs"], "--set epochs: write KEY=VALUE"),
        (["--set", "data.source=[a"], "--set data.source=[a: the value is not YAML"),
        (["--set", "training.epoch=2"], "training.epoch"),
        (["--set", "name=2024-99-99"], "--set name=2024-99-99: the value is not YAML"),
        (["--only", "momentum"], "--only momentum: no usual range"),
    ],
)
def test_a_wish_that_cannot_be_read_is_one_clear_line(command, lora_rows, options, said):
    status, _out, err = command("init", "./small", "rows.jsonl", *options)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1


def test_a_study_that_comes_with_the_package_is_named_without_a_path(command):
    status, out, _err = command("study", "validate", "builtin:quickstart", "--quick")
    assert status == 0
    assert "builtin:llama-tiny -> builtin:llama-small" in out
    status, _out, err = command("study", "validate", "builtin:quikstart", "--quick")
    assert status == 2
    assert "those are builtin:" in err
