"""The child behind lr-range: a ramp until the loss diverges, or a sweep, each from the same start."""

import json
import subprocess
import sys

import pytest

from hpo_service.domain.advise.range_test import Ramp
from hpo_service.errors import DataError, TrialError, UnfitError
from hpo_service.service.advice.short_runs import configured
from hpo_service.training.engines.short_runs import ShortRuns
from hpo_service.training.run.steps import StepPlan
from hpo_service.training.short_runs import answer_to

RAMP = {"low": 1e-5, "high": 10.0, "steps": 40}


def request(trainee, kind, **given):
    config = trainee.config(**given.pop("settings", {"effective_batch": 8}))
    cache = str(trainee.folder / "cache")
    return {"kind": kind, "config": config.model_dump(mode="json"), "cache": cache, **given}


def test_the_rate_rises_until_the_loss_diverges(trainee):
    # adapters on a random model find nothing to lose
    asked = request(trainee, "range", ramp=RAMP, settings={"effective_batch": 8, "method": "full"})
    found = answer_to(asked)
    assert found["stopped"]
    assert 10 < len(found["losses"]) < 40
    assert min(found["losses"]) < found["losses"][0]
    assert answer_to(asked) == found


def test_a_sweep_trains_at_each_rate_from_the_same_start(trainee):
    low, good, same = answer_to(request(trainee, "sweep", rates=[1e-6, 1e-2, 1e-2], steps=12))["sweep"]
    assert good == same
    assert good["validation_loss"] < low["validation_loss"]
    assert (low["rate"], good["rate"]) == (1e-6, 1e-2)


def test_a_loss_that_is_no_number_is_told_as_none(trainee):
    settings = {"method": "full", "max_grad_norm": 1e9}
    (found,) = answer_to(request(trainee, "sweep", rates=[1.0], steps=20, settings=settings))["sweep"]
    assert found["validation_loss"] is None or found["validation_loss"] > 3


def test_what_cannot_be_tested_is_refused(trainee, tmp_path):
    with pytest.raises(DataError, match="are more than 100 times the"):
        answer_to(request(trainee, "range", ramp={**RAMP, "steps": 5000}))
    with pytest.raises(UnfitError, match="makes one in each trial"):
        answer_to(request(trainee, "range", ramp=RAMP, settings={"method": "scratch"}))
    nameless = configured(trainee.config().model, trainee.config().data, trainee.config().training)
    with pytest.raises(TrialError, match="needs a model and rows"):
        ShortRuns(nameless.model_copy(update={"data": None}), tmp_path, lambda *_: None).ramp(Ramp())


def test_a_process_answers_in_one_line(trainee, tmp_path):
    asked = request(trainee, "range", ramp=RAMP)
    asked["config"]["model"]["base"] = asked["config"]["model_name"] = str(tmp_path / "nothing")
    child = subprocess.run(
        [sys.executable, "-m", "hpo_service.training.short_runs"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert child.returncode == 1, child.stderr
    assert "nothing" in json.loads(child.stdout)["error"]


def test_a_few_steps_tell_what_a_whole_run_takes(trainee):
    config = trainee.config(effective_batch=8, evaluations_per_epoch=4)
    ticks = iter(range(0, 1000, 5))
    found = ShortRuns(config, trainee.folder / "cache", lambda *_: None).pace(4, clock=lambda: float(next(ticks)))
    assert (found["step_seconds"], found["loading_seconds"]) == (5.0, 5.0)
    train = found["steps"] * 8
    assert found["steps"] == StepPlan.of(config.training, train).steps
    assert 0 < found["evaluated"] < 4
    asked = answer_to(request(trainee, "pace", steps=3))
    assert set(asked) == set(found)
    assert asked["step_seconds"] > 0
