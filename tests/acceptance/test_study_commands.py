"""`study validate` and `study schema` as people and editors meet them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpo_service import cli
from hpo_service.errors import ConflictError, HpoServiceError

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))
HEAVY = ("optuna", "sqlalchemy", "alembic", "matplotlib", "numpy", "jinja2", "torch", "transformers")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_that_comes_with_the_project_is_valid_offline(path, capsys):
    assert run("study", "validate", str(path)) == 0
    out, err = capsys.readouterr()
    assert f"study {path.stem}" in out
    assert f"{path} is valid" in out
    assert err == ""


def test_only_mixed_families_and_the_quickstarts_learning_rates_are_warned_about(capsys):
    warned = {}
    for path in STUDIES:
        run("study", "validate", str(path), "--json", "--quick")
        warned[path.stem] = json.loads(capsys.readouterr().out)["warnings"]
    assert [name for name, warnings in warned.items() if warnings] == ["mixed-families", "quickstart"]
    (beginning,) = warned["quickstart"]
    assert beginning["message"].startswith("the default, 0.0002, lies outside of its range, 0.0005 to 0.02")
    (warning,) = warned["mixed-families"]
    assert warning["key"] == "model.target"
    assert "another family" in warning["message"]


def test_the_summary_says_what_will_run_and_where_the_warning_is(capsys):
    path = next(path for path in STUDIES if path.stem == "mixed-families")
    run("study", "validate", str(path))
    out = capsys.readouterr().out
    assert "15 trials, sampler gp, pruner early_exit" in " ".join(out.split())
    assert "5e-05 to 0.0005, log scale" in out
    assert f"warning: {path}:8: model.target: Mistral is another family" in " ".join(out.split())


def test_an_objectives_study_is_summed_up_too(tmp_path, capsys):
    file = tmp_path / "own.yaml"
    file.write_text(
        "name: own\nobjective: {python: 'package.tuning:train'}\nconfirm: {enabled: false}\n"
        "space:\n  parameters:\n    depth: {low: 2, high: 12, step: 2}\n"
        "    rate: {low: 0.1, high: 0.5, when: {depth: 4}}\n"
    )
    assert run("study", "validate", str(file)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "package.tuning:train" in out
    assert "2 to 12, step 2" in out
    assert "0.1 to 0.5, where depth is 4" in out
    assert "confirm" not in out


def test_json_carries_the_whole_resolved_study(capsys):
    path = next(path for path in STUDIES if path.stem == "quickstart")
    run("study", "validate", str(path), "--json", "--quick")
    document = json.loads(capsys.readouterr().out)
    assert document["study"]["name"] == "quickstart"
    assert document["study"]["confirm"]["seeds"] == 3
    assert [each["key"] for each in document["warnings"]] == ["space.parameters.learning_rate"]


def test_with_json_an_error_is_an_object_on_standard_error(tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text("name: x\nmodle: {}\n")
    assert run("study", "validate", str(file), "--json") == 2
    out, err = capsys.readouterr()
    assert out == ""
    error = json.loads(err)["error"]
    assert (error["type"], error["file"], error["line"], error["key"]) == ("StudyFileError", str(file), 2, "modle")
    assert error["exit_code"] == 2


def test_a_file_that_is_not_there_names_the_nearest_one(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("name: x\n")
    assert run("study", "validate", str(tmp_path / "mime.yaml")) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"No such file or directory; the nearest is {tmp_path / 'mine.yaml'}" in err


def test_a_folder_or_a_missing_folder_is_one_line(tmp_path, capsys):
    assert run("study", "validate", str(tmp_path)) == 2
    assert run("study", "validate", str(tmp_path / "no" / "x.yaml")) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_a_file_that_is_not_utf8_names_the_line(tmp_path, capsys):
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"name: x\ndescription: caf\xe9\n")
    assert run("study", "validate", str(file)) == 2
    assert capsys.readouterr().err == f"error: {file}:2: is not UTF-8 text; save it as UTF-8\n"


def test_a_pipe_is_refused_for_reading_it_may_never_end(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.yaml")
    assert run("study", "validate", str(tmp_path / "pipe.yaml")) == 2
    assert "pipe.yaml: is no regular file but a pipe or a device; save it first" in capsys.readouterr().err


def test_local_paths_start_at_the_study_files_folder(tmp_path, capsys, monkeypatch):
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.json").write_text('{"model_type": "llama"}')
    file = tmp_path / "mine.yaml"
    file.write_text("name: x\nmodel: {base: ./small, target: Qwen/Qwen2.5-7B}\ndata: {source: rows.jsonl}\n")
    monkeypatch.chdir("/")
    assert run("study", "validate", str(file), "--json", "--quick") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["study"]["data"]["source"] == str(tmp_path / "rows.jsonl")
    assert document["study"]["model"]["base"] == str(tmp_path / "small")
    assert "another family than the base's llama" in document["warnings"][0]["message"]


@pytest.mark.parametrize("config", ["not json", "[]", "{}", None])
def test_a_local_model_of_unknown_architecture_is_not_warned_about(config, tmp_path, capsys):
    (tmp_path / "small").mkdir()
    if config is not None:
        (tmp_path / "small" / "config.json").write_text(config)
    file = tmp_path / "mine.yaml"
    file.write_text("name: x\nmodel: {base: ./small, target: Qwen/Qwen2.5-7B}\ndata: {source: a/b}\n")
    assert run("study", "validate", str(file), "--json", "--quick") == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


@pytest.mark.parametrize("source", ["~nobody-of-this-name/rows.jsonl", "/" + "x" * 5000 + ".csv"])
def test_a_path_no_file_can_have_is_a_missing_file(source, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: x\nmodel: {{base: a/b}}\ndata: {{source: {source}}}\n")
    assert run("study", "validate", str(file)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "does not exist" in err


def test_the_schema_is_json_with_a_description_of_every_field(capsys):
    assert run("study", "schema") == 0
    schema = json.loads(capsys.readouterr().out)
    sections = [schema, *(schema["$defs"][name] for name in schema["$defs"])]
    bare = [name for s in sections for name, field in s.get("properties", {}).items() if "description" not in field]
    assert set(bare) <= {"type"} | set(schema["$defs"]["SpaceSpec"]["properties"]["parameters"]["properties"])


def test_help_of_each_command_shows_an_example(capsys):
    for command in ("validate", "schema"):
        assert run("study", command, "--help") == 0
        assert f"  hpo-service study {command}" in capsys.readouterr().out


def test_a_wrong_command_is_a_usage_error(capsys):
    assert run("study", "validat") == 2
    assert "validate" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("hpo-service ")


@pytest.mark.parametrize("fault", [HpoServiceError("first\nsecond"), ConflictError("first second")])
def test_an_expected_error_is_one_line_and_its_own_status(fault, capsys, monkeypatch):
    monkeypatch.setattr(cli, "app", _raising(fault))
    assert run("study", "list") == fault.exit_code
    assert capsys.readouterr().err == "error: first second\n"


def test_ctrl_c_ends_with_130():
    code = "import hpo_service.cli as c, hpo_service.service.studies.study_file as s\n"
    code += "def stop(path): raise KeyboardInterrupt\ns.read_study_file = stop\nc.main(['study', 'validate', 'x'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_validate_says_what_confirm_can_see_and_what_it_assumes(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HPO_SERVICE_OUTPUT", str(tmp_path / "none"))
    path = next(path for path in STUDIES if path.stem == "quickstart")
    assert run("study", "validate", str(path)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "confirm: with 3 seeds each a difference of" in said
    assert "(assumed, since no earlier study here has confirmed" in said
    assert "note: the default's learning_rate 0.0002 lies outside of what is searched, 0.0005 to 0.02" in said
    assert not (tmp_path / "none").exists(), "looking for a database makes none"


def test_validate_needs_no_heavy_import_where_nothing_of_the_study_is_on_this_machine():
    code = f"import sys, hpo_service.cli as c\ntry: c.main(['study', 'validate', {str(STUDIES[0])!r}])\n"
    code += f"finally: sys.stderr.write(' '.join(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr in ("", "numpy"), "quantiles need numpy's part of SciPy, and nothing else"


def _raising(fault: Exception):
    def app(**_: object) -> None:
        raise fault

    return app
