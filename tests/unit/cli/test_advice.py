"""Advice on the command line: figures with reasons, pictures, plain data, and one line where something is wrong."""

import importlib
import json
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from hpo_service.cli import app
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import ConflictError, DataError, HpoServiceError, NotFoundError, UsageError
from hpo_service.service.studies.winner import child as winner_child
from tests.unit.domain.advise.logs import FAULTY, HEALTHY
from tests.unit.domain.advise.shapes import CONFIGS
from tests.unit.presentation import story


def asked(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def refused(kind, *arguments):
    done = asked(*arguments)
    assert isinstance(done.exception, kind), done.output
    return str(done.exception)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIGS["Llama-2-7B"]))
    return folder


def test_a_log_is_diagnosed_in_words(tmp_path):
    (tmp_path / "checkpoint-20").mkdir()
    (tmp_path / "checkpoint-9").mkdir()
    (tmp_path / "checkpoint-9" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-20" / "trainer_state.json").write_text(json.dumps(FAULTY["not a number"]))
    shown = asked("diagnose", tmp_path).stdout
    assert "not a number (severe)" in shown
    assert "remedy: lower the learning rate" in shown
    found = json.loads(asked("diagnose", tmp_path / "checkpoint-20", "--json").stdout)
    assert [each["fault"] for each in found["faults"]] == ["not a number"]


def test_a_healthy_log_is_said_to_be_so(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(json.dumps(HEALTHY["a short run"]))
    assert asked("diagnose", path).stdout == "no fault found in 24 training losses, 4 evaluations\n"


def test_a_bad_log_is_one_line(tmp_path):
    assert "no such file" in refused(NotFoundError, "diagnose", tmp_path / "x.json")
    assert "in this folder or its checkpoint-N" in refused(NotFoundError, "diagnose", tmp_path)
    (tmp_path / "bad.json").write_text("[" * 100_000)
    assert "is not JSON" in refused(DataError, "diagnose", tmp_path / "bad.json")
    assert "one of the two" in refused(UsageError, "diagnose")


@pytest.fixture
def studied(monkeypatch):
    """Lets the command see a study at a moment."""

    def be(snapshot):
        service = type("Service", (), {"reader": type("Reader", (), {"snapshot": staticmethod(lambda _: snapshot)})})
        # the package's own `diagnose` is the command
        command = importlib.import_module("hpo_service.cli.advice.diagnose")
        monkeypatch.setattr(command, "open_service", lambda *_: service)

    return be


def test_the_trials_of_a_study_are_diagnosed_and_its_best_ones_place(studied):
    at_edge = {"learning_rate": 4.9e-4, "lora_rank": 16}
    trials = [story.trial(1, 0, TrialState.COMPLETE, at_edge, final=2.0)]
    trials += [story.trial(2, 1, TrialState.COMPLETE, at_edge, final=2.1, steps=2)]
    stage = story.with_trials(story.search_stage(), trials)
    studied(story.snapshot(stage))
    shown = asked("diagnose", "--study", "quickstart").stdout
    assert "complete trials with fewer than 3 evaluations, which are not judged: 1" in shown
    assert "best at the edge: the best trial's learning_rate lies at the edge of its range, 5e-05 to 0.0005" in shown
    found = json.loads(asked("diagnose", "--study", "quickstart", "--json").stdout)
    assert list(found["trials"]) == ["search/0"]
    assert found["edges"]["learning_rate"].endswith("widen it to high 0.002")


def test_a_study_without_complete_trials_is_one_line(studied):
    studied(story.snapshot(story.with_trials(story.search_stage(), [])))
    assert "has no complete trial yet" in refused(ConflictError, "diagnose", "--study", "quickstart")


def test_settings_are_recommended_with_reasons(model):
    shown = asked("recommend", model, "--rows", 5000, "--gpu", 24).stdout
    assert "learning_rate: 0.0002" in shown
    found = json.loads(asked("recommend", model, "--rows", 5000, "--gpu", 24, "--json").stdout)
    assert found["training"]["method"] == "lora"
    assert all(each["reason"] and each["source"] for each in found["advice"])
    assert asked("recommend", model, "--rows", 10, "--task", "dance").exit_code == 2


def test_adapters_are_counted(model):
    shown = asked("lora-params", model, "--rank", 8).stdout
    assert "6,738.1M weights" in shown
    assert "all-linear" in shown
    found = json.loads(asked("lora-params", model, "--json").stdout)
    assert found["presets"]["minimal"]["8"] == 4_194_304
    assert found["share"]["minimal"]["8"] == pytest.approx(4_194_304 / found["base"])


def test_a_model_that_is_not_here_or_says_nothing_is_one_line(tmp_path):
    assert "hf download no/where config.json" in refused(NotFoundError, "lora-params", "no/where")
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert "names no hidden size" in refused(HpoServiceError, "lora-params", tmp_path)


def test_a_batch_is_planned(model):
    shown = asked("plan", "batch", model, "--batch", 64, "--gpu", 24, "--lr", 2e-4).stdout
    assert "= 64" in shown
    assert "learning rate 4e-4, from 2e-4 at 16" in shown
    found = json.loads(asked("plan", "batch", model, "--batch", 64, "--gpus", 2, "--gpu", 24, "--json").stdout)
    assert found["micro_batch"] * found["accumulation"] * 2 == 64
    assert "learning_rate" not in found
    assert "--method scratch" in refused(UsageError, "plan", "batch", model, "--batch", 8, "--method", "scratch")


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_schedules_are_drawn(tmp_path, ending):
    path = tmp_path / f"all.{ending}"
    assert "warmup_stable_decay" in asked("schedule", "plot", path, "--warmup", 0.1).stdout
    drawn = path.read_bytes()
    assert drawn.startswith({"png": b"\x89PNG", "svg": b"<?xml", "html": b"<!doctype html>"}[ending])
    if ending == "svg":
        assert "inverse_sqrt" in "".join(ElementTree.fromstring(drawn).itertext())


def test_those_of_a_study_are_drawn_alone(tmp_path):
    study = tmp_path / "mine.yaml"
    study.write_text(
        "name: mine\nmodel: {base: builtin:llama-tiny}\ndata: {source: builtin:stdlib-docstrings}\n"
        "space: {preset: lora-schedules}\n"
    )
    found = json.loads(asked("schedule", "plot", tmp_path / "x.svg", "--study", study, "--steps", 10, "--json").stdout)
    assert list(found["rates"]) == ["cosine", "linear", "constant_with_warmup"]
    assert found["steps"] == 10


def test_a_picture_that_cannot_be_written_is_said_before_the_work(tmp_path):
    assert "ends with .png" in refused(UsageError, "schedule", "plot", tmp_path / "x.bmp")
    assert "there is no folder" in refused(UsageError, "lr-range", "m", "d", "--plot", tmp_path / "no" / "x.png")


@pytest.fixture
def child(monkeypatch):
    """What the child was asked, and what it answers."""
    requests, answers = [], []

    def ask(module, request, tell):
        requests.append(json.loads(request))
        tell("loading (0%)")
        return answers[-1]

    monkeypatch.setattr(winner_child, "ask", ask)
    return requests, answers


LOSSES = [3.0] * 60 + [3.0 - 0.03 * step for step in range(40)] + [2.0, 3.5, 4.5, 6.0, 7.0, 8.0]


def test_a_range_test_is_told_and_drawn(child, tmp_path):
    child[1].append((0, json.dumps({"losses": LOSSES, "stopped": "it rose"}), ""))
    picture = tmp_path / "range.svg"
    shown = asked("lr-range", "org/model", "org/rows", "--rank", 4, "--plot", picture).stdout
    assert "stopped: it rose" in shown
    assert "suggested learning rate: 0." in shown
    assert "suggested" in picture.read_text()
    (request,) = child[0]
    assert request["config"]["training"] == {"method": "lora", "lora_rank": 4, "effective_batch": 16}
    assert request["ramp"] == {"low": 1e-6, "high": 1.0, "steps": 120}


def test_a_curve_without_a_suggestion_is_no_failure(child):
    child[1].append((0, json.dumps({"losses": [3.0] * 120, "stopped": ""}), ""))
    found = json.loads(asked("lr-range", "org/model", "org/rows", "--json").stdout)
    assert found["suggestion"] is None
    assert found["reason"]


def test_a_sweep_is_told_and_drawn(child, tmp_path):
    rates = [
        {"rate": 1e-4, "train_loss": 2.0, "validation_loss": 2.1},
        {"rate": 3e-4, "train_loss": 1.5, "validation_loss": 1.6},
        {"rate": 1e-2, "train_loss": None, "validation_loss": None},
    ]
    child[1].append((0, json.dumps({"sweep": rates}), ""))
    arguments = ["lr-range", "org/model", "org/rows", "--sweep", "3e-4,1e-4,1e-2", "--plot", tmp_path / "x.png"]
    shown = asked(*arguments).stdout
    assert "suggested learning rate: 3e-4" in shown
    assert child[0][0]["rates"] == [1e-4, 3e-4, 1e-2]
    assert json.loads(asked(*arguments, "--json").stdout)["suggestion"] == 3e-4


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["lr-range"], "name MODEL and DATA"),
        (["lr-range", "m", "d", "--low", "0.1", "--high", "0.01"], "must lie below"),
        (["lr-range", "m", "d", "--sweep", "fast"], "takes rates above 0"),
        (["lr-range", "m", "d", "--method", "magic"], "method: "),
        (["lr-range", "m", "d", "--study", "s.yaml"], "leave MODEL and DATA out"),
    ],
)
def test_wrong_usage_is_one_line(arguments, words):
    assert words in refused(UsageError, *arguments)


def test_what_the_child_says_is_passed_on(child):
    child[1].append((1, json.dumps({"error": "model org/model cannot be loaded"}), ""))
    assert "cannot be loaded" in refused(HpoServiceError, "lr-range", "org/model", "org/rows")
    child[1].append((1, "", "ModuleNotFoundError: No module named 'torch'"))
    assert "pip install 'hpo-service[train]'" in refused(HpoServiceError, "lr-range", "org/model", "org/rows")
