"""W&B's sweep files become study files that are valid, and nothing of them is lost without a word."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hpo_service.domain.study.sections.objective import command_line
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.sweepfile.translation import Translated, translate
from hpo_service.errors import StudyFileError

SWEEPS = sorted((Path(__file__).parent / "sweeps").glob("*.yaml"))


def named(name: str) -> Translated:
    return translate((Path(__file__).parent / "sweeps" / f"{name}.yaml").read_text(), f"{name}.yaml", name)


def one(entry: str, method: str = "random") -> Translated:
    text = f"program: t.py\nmethod: {method}\nmetric: {{name: loss}}\nrun_cap: 3\nparameters:\n  x: {entry}\n"
    return translate(text, "s.yaml", "s")


def remarks(found: Translated) -> dict[str, str]:
    return {remark.key: remark.message for remark in found.remarks}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_file_becomes_a_valid_study_with_every_key_answered(path: Path) -> None:
    found = named(path.stem)
    spec = StudySpec.model_validate(found.study, strict=True)
    assert spec.objective is not None
    assert set(spec.objective.placeholders(spec.space.resolve().parameters)) >= set(spec.space.resolve().parameters)
    assert [remark.line for remark in found.remarks] == sorted(remark.line for remark in found.remarks)
    assert all(str(remark).startswith(f"{remark.line}: {remark.key}") for remark in found.remarks)


def test_a_plain_sweep() -> None:
    found = named("mnist")
    assert found.study["name"] == "MNIST-first-try"
    assert found.study["objective"]["command"] == (
        "/usr/bin/env python train.py --epochs=5 --learning_rate={learning_rate} --batch_size={batch_size} "
        "--optimizer={optimizer}"
    )
    assert found.study["search"] == {"sampler": "tpe", "pruner": "halving", "budget": {"trials": 20}}
    assert found.study["space"]["parameters"]["learning_rate"] == {"type": "float", "low": 0.0001, "high": 0.1}
    said = remarks(found)
    assert set(said) == {"project", "entity", "metric.name", "early_terminate", "run_cap"}
    assert "the script is to print here" in said["metric.name"]
    assert "hyperband keeps 1 of 3; rungs lie at 25% and 50%" in said["early_terminate"]
    assert "W&B would not end: the budget is 20 trials" in said["run_cap"]


def test_a_command_of_ones_own_with_brackets_and_a_goal() -> None:
    found = named("cluster")
    assert found.study["search"] == {
        "sampler": "random",
        "pruner": "halving",
        "rungs": [0.25, 0.5],
        "direction": "maximize",
        "budget": {"trials": 12},
    }
    assert "-config config-base.yaml --lr_init={lr_init}" in found.study["objective"]["command"]
    decay = found.study["space"]["parameters"]["weight_decay"]
    assert (decay["low"], decay["high"], decay["log"]) == (math.exp(-9.2), math.exp(-4.6), True)
    assert {"metric.target", "command", "early_terminate"} <= set(remarks(found))


def test_nested_parameters_have_dots_and_a_seed_is_the_trials_own() -> None:
    found = named("nested")
    space = found.study["space"]["parameters"]
    assert list(space) == ["optimizer.lr", "optimizer.betas", "width", "dropout", "warmup", "schedule"]
    assert space["width"] == {"type": "int", "low": 64, "high": 512, "step": 64}
    assert space["dropout"] == {"type": "float", "low": 0.0, "high": 0.5, "step": 0.05}
    assert space["warmup"] == {"type": "int", "low": 10, "high": 1000, "log": True}
    assert space["optimizer.betas"]["choices"] == ["[0.9, 0.999]", "[0.9, 0.95]"]
    assert space["schedule"]["choices"] == ["cosine", "None"]
    assert "step" not in space["optimizer.lr"]
    command = found.study["objective"]["command"]
    assert "--optimizer.name=adamw --optimizer.lr={optimizer.lr}" in command
    assert command.endswith("--seed={seed}")
    said = remarks(found)
    assert "--optimizer.NAME=VALUE" in said["parameters.optimizer.parameters"]
    assert "no steps here" in said["parameters.optimizer.parameters.lr.q"]
    assert "confirm runs new ones" in said["parameters.seed"]


def test_shapes_become_ranges_and_json_stays_json() -> None:
    found = named("bells")
    space = found.study["space"]["parameters"]
    assert (space["gain"]["low"], space["gain"]["high"]) == pytest.approx((0.7, 1.3))
    assert space["units"] == {"type": "int", "low": 70, "high": 130, "step": 5}
    assert space["heads"] == {"type": "int", "low": 3, "high": 18, "log": True}
    assert space["split"] == {"type": "float", "low": 0.0, "high": 1.0, "step": 0.1}
    assert (space["inverse"]["low"], space["inverse"]["high"]) == pytest.approx((math.exp(-4), math.exp(-1)))
    assert (space["decay"]["low"], space["decay"]["high"]) == (0.001, 0.1)
    values = dict.fromkeys(space, 0.5) | {"kind": "a", "flag": "on"}
    words = command_line(found.study["objective"]["command"], values)
    assert json.loads(words[3]) == {"steps": 10, **values}
    assert words[4] == "--user=${envvar:USER}"
    said = remarks(found)
    assert said["controller"] == "has no counterpart and is left out"
    assert "${envvar:USER} has no counterpart" in said["command"]
    assert "equally likely" in said["parameters.kind.probabilities"]
    assert {f"parameters.{name}.distribution" for name in ("gain", "noise", "units", "heads", "mix", "split")} <= set(
        said
    )


def test_a_grid_has_as_many_trials_as_points_and_braces_stay_text() -> None:
    found = named("grid")
    assert found.study["search"]["budget"] == {"trials": 8}
    assert "run_cap" not in remarks(found)
    words = command_line(found.study["objective"]["command"], {"lora_r": 8, "lora_alpha": 1, "dropout": 0.1})
    assert words == ["python", "finetune.py", "model_name=org/small {model}", "lora_r=8", "lora_alpha=1", "dropout=0.1"]


def test_an_endless_grid_is_left_to_validation() -> None:
    text = "program: t.py\nmethod: grid\nmetric: {name: loss}\nparameters: {x: {min: 0.1, max: 0.5}}\n"
    assert translate(text, "s.yaml", "s").study["search"]["budget"] == {"trials": 20}


def test_values_where_exponents_belong_are_doubted() -> None:
    found = one("{distribution: log_uniform, min: 1e-5, max: 0.1}")
    assert "was log_uniform_values meant?" in remarks(found)["parameters.x.distribution"]


def test_quantised_exponents() -> None:
    found = one("{distribution: q_log_uniform, min: 0, max: 4.6}")
    assert found.study["space"]["parameters"]["x"] == {"type": "int", "low": 1, "high": 99, "log": True}
    assert "no steps here" in remarks(one("{distribution: q_log_uniform, min: -2, max: 0.5}"))["parameters.x"]


def test_keys_of_a_parameter_that_nobody_reads_are_named() -> None:
    found = one("{values: [1, 2], min: 0, title: width}")
    assert {"parameters.x.min", "parameters.x.title"} <= set(remarks(found))
    found = translate(
        "program: t.py\nmethod: random\nrun_cap: 3\nparameters: {x: {values: [1, 2]}, y: {value: 1, note: a}}\n",
        "s",
        "?!",
    )
    assert {"parameters.y.note", "metric"} <= set(remarks(found))
    assert found.study["name"] == "sweep"


def test_a_command_as_text_and_one_without_arguments() -> None:
    head = "method: random\nmetric: {name: l}\nrun_cap: 2\nparameters: {x: {values: [1, 2]}}\n"
    assert translate(head + "command: 'run it ${args}'\n", "s", "s").study["objective"]["command"] == "run it --x={x}"
    found = translate(head + "command: [run, 'a b', '${env}x']\n", "s", "s")
    assert found.study["objective"]["command"] == "run 'a b' /usr/bin/envx"
    assert "passes no ${args}" in remarks(found)["command"]
    found = translate(head + "command: ['${args_json}']\nseed: 1\n", "s", "s")
    assert command_line(found.study["objective"]["command"], {"x": 1}) == ['{"x": 1}']


def test_a_seed_in_json_is_the_trials() -> None:
    text = "method: random\nmetric: {name: l}\nrun_cap: 2\nparameters: {seed: {value: 3}, x: {values: [a]}}\n"
    text += "command: ['${args_json}']\n"
    words = command_line(translate(text, "s", "s").study["objective"]["command"], {"x": "a", "seed": 7})
    assert json.loads(words[0]) == {"x": "a", "seed": 7}


WHOLE: dict[str, Any] = {"method": "random", "program": "t.py", "parameters": {"x": {"values": [1, 2]}}}


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"parameters": None}, "is no sweep file: it has no `parameters`"),
        ({"parameters": [1]}, "must be a mapping"),
        ({"parameters": {"x": None}}, "has neither values nor a range"),
        ({"parameters": {"x": {"value": 1}}}, "has nothing to search"),
        ({"parameters": {"x": {"values": []}}}, "needs a list of `values`"),
        ({"parameters": {"x": {"min": 1}}}, "needs `value`, `values`, or numbers"),
        ({"parameters": {"x": {"min": 2, "max": 1}}}, "min 2 is above max 1; swap them"),
        ({"parameters": {"x": {"distribution": "uniform", "min": 2}}}, "misses max"),
        ({"parameters": {"x": {"distribution": "uniform", "min": 2, "max": "b"}}}, "needs a number"),
        (
            {"parameters": {"x": {"distribution": "triangle"}}},
            "there is no distribution triangle: those are categorical",
        ),
        ({"parameters": {"x": {"distribution": "log_uniform_values", "min": 0, "max": 1}}}, "begins above 0"),
        ({"parameters": {"x": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}}}, "must be above 0"),
        ({"method": "genetic"}, "there is no method genetic: it is one of bayes, random, grid"),
        ({"method": None}, "there is no method None"),
        ({"program": None}, "names no program"),
        ({"command": []}, "must be a list of words"),
        ({"run_cap": 0}, "must be a number of runs"),
        ({"metric": {"goal": "up"}}, "is minimize or maximize"),
        ({"early_terminate": {"type": "median"}}, "the one type there is is hyperband"),
    ],
)
def test_what_cannot_be_understood_names_file_and_line(changes: dict[str, Any], reason: str) -> None:
    text = json.dumps({key: value for key, value in {**WHOLE, **changes}.items() if value is not None})
    with pytest.raises(StudyFileError, match=reason) as caught:
        translate(text, "sweep.yaml", "s")
    assert str(caught.value).startswith("sweep.yaml:1: ")


def test_a_goal_without_a_name_is_told_too() -> None:
    text = "program: t.py\nmethod: random\nrun_cap: 2\nmetric: {goal: maximize, more: 1}\n"
    text += "parameters: {x: {values: [1, 2]}}\n"
    said = remarks(translate(text, "s", "s"))
    assert said["metric.name"].startswith("is not named")
    assert said["metric.more"] == "has no counterpart and is left out"
