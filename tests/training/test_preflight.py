"""What the trainer's libraries tell of a node: its device, bitsandbytes, and what the hub would give it."""

from __future__ import annotations

import json
import subprocess
import sys

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from hpo_service.training import preflight


def hub_that_raises(monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", refuse)
    return preflight.from_hub("model", "org/model")


def without_answer(kind):
    """An error of the hub as it is raised, without the HTTP answer that it is made of."""
    return kind.__new__(kind, "no")


@pytest.mark.parametrize(
    "error, remedy",
    [
        (OfflineModeIsEnabled("no"), "run `hf download org/model` where there is network"),
        (without_answer(GatedRepoError), "accept its terms on its page, then set HF_TOKEN"),
        (without_answer(RepositoryNotFoundError), "check the name, or set HF_TOKEN"),
        (ConnectionError("no route"), "cannot be fetched (ConnectionError: no route): give this node network"),
    ],
    ids=["offline", "gated", "unknown", "unreachable"],
)
def test_what_the_hub_does_not_give_is_an_error_with_what_to_set(monkeypatch, error, remedy):
    said = hub_that_raises(monkeypatch, error)
    assert (said["what"], said["level"]) == ("model org/model", "error")
    assert remedy in said["detail"]


def test_what_the_hub_gives_is_well(monkeypatch):
    monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", lambda *_, **__: None)
    assert preflight.from_hub("data", "org/rows")["level"] == "ok"


def test_bitsandbytes_is_tried_and_one_that_does_not_work_is_an_error(monkeypatch):
    assert preflight.bitsandbytes()["level"] == "ok"
    monkeypatch.setattr("bitsandbytes.functional.dequantize_4bit", lambda *_: torch.zeros(64, 64))
    said = preflight.bitsandbytes()
    assert said["level"] == "error"
    assert "numbers change by 1 in 4 bits" in said["detail"]
    assert "or set model.quantisation to none" in said["detail"]


def test_a_device_that_does_not_compute_is_an_error(monkeypatch):
    def broken():
        raise RuntimeError("the GPU multiplies wrongly")

    assert preflight.device()["level"] == "ok"
    monkeypatch.setattr("hpo_service.training.device.environment.try_device", broken)
    assert preflight.device()["level"] == "error"


def test_the_process_answers_one_request_and_writes_nothing_else_to_its_output():
    request = json.dumps({"hub": [["model", "org/model"]], "quantises": False})
    command = [sys.executable, "-m", "hpo_service.training.preflight"]
    answer = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    device, model = json.loads(answer.stdout)["findings"]
    assert device["what"] == "study's device"
    assert "HF_HUB_OFFLINE forbids" in model["detail"]
