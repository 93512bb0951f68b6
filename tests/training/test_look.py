"""The look at a study before its first trial: rows, tokenizer and models, all that is wrong at once."""

import json
import subprocess
import sys

import pytest

from hpo_service.domain.study.finding import Finding
from hpo_service.domain.study.spec import StudySpec
from hpo_service.training import look
from hpo_service.training.look import look_at
from tests.training.tiny import CHAT_TEMPLATE, byte_tokenizer, pairs, save_tiny_llama, write_rows

SPACE = {"preset": "none", "parameters": {"learning_rate": {"low": 1e-4, "high": 1e-3, "log": True}}}


def study(base, source, target=None, **sections):
    given = {
        "name": "s",
        "space": SPACE,
        "model": {"base": str(base), "target": target},
        "data": {"source": str(source)},
    }
    return StudySpec.model_validate({**given, **sections})


def told(*given, **sections):
    return [(each.level, each.subject, str(each)) for each in look_at(study(*given, **sections), 200)]


def test_of_a_study_that_is_right_nothing_is_said(llama, data_file):
    assert told(llama, data_file) == told("builtin:llama-tiny", "builtin:stdlib-docstrings") == []


def test_a_process_answers_with_every_finding_of_rows_and_models(llama, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": 1, "completion": "x"}, {"prompt": "a"}])
    asked = study(llama, rows, training={"init_lora_weights": "olora", "lora_rank": 64})
    child = subprocess.run(
        [sys.executable, "-m", "hpo_service.training.look"],
        input=json.dumps({"study": asked.model_dump(mode="json", exclude_unset=True), "rows": 10}),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert child.returncode == 1, child.stderr
    found = [Finding.model_validate(each) for each in json.loads(child.stdout)["findings"]]
    assert [str(each) for each in found if each.subject == "data"] == [
        f"{rows}, line 1: column 'prompt' must be text, not a int",
        f"{rows}, line 2: column 'completion' is missing",
    ]
    (model,) = [each for each in found if each.subject == "model"]
    assert model.level == "error"
    assert "olora takes 64 directions out of each layer" in str(model)


def test_a_configuration_that_cannot_be_used_is_told_once(tmp_path, data_file):
    save_tiny_llama(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "no-such-family"}')
    found = told(tmp_path, data_file)
    assert [subject for _, subject, _ in found].count("model") == 1
    assert {level for level, *_ in found} == {"error"}


def test_the_target_is_looked_at_with_ranks_as_they_are_carried_over(llama, data_file, tmp_path):
    large = str(tmp_path / "large")
    save_tiny_llama(tmp_path / "large", seed=1, width=64)
    least = 16  # of the small model's layers; the large one's are twice as wide
    training = {"init_lora_weights": "pissa", "lora_rank": least}
    assert told(llama, data_file, large, training=training) == []
    ((level, _, what),) = told(llama, data_file, large, training=training, transfer={"rank_factor": 8, "rank_cap": 128})
    assert level == "error"
    assert what.startswith(f"model {large}: pissa takes 128 directions out of each layer")


def test_rows_are_looked_at_with_the_targets_tokenizer_too(llama, data_file, tmp_path):
    large = str(tmp_path / "large")
    save_tiny_llama(tmp_path / "large", seed=1, width=64)
    config = json.loads((tmp_path / "large" / "config.json").read_text())
    (tmp_path / "large" / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4}))
    ((level, _, what),) = told(llama, data_file, large)
    assert level == "error"
    assert f"do not fit the 4 positions of model {large}" in what


def test_a_device_that_is_not_here_is_a_warning_since_workers_may_run_elsewhere(llama, data_file, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    model = {"base": llama, "dtype": "float16"}
    ((level, _, what),) = told(llama, data_file, model=model)
    assert (level, "model.dtype float16 needs a GPU" in what) == ("warning", True)


def test_a_default_that_could_not_be_trained_is_warned_of(llama, data_file):
    space = {**SPACE, "parameters": {**SPACE["parameters"], "lora_rank": {"choices": [4, 8]}}}
    training = {"init_lora_weights": "pissa"}
    confirm = {"default": {"lora_rank": 64}}
    ((level, _, what),) = told(llama, data_file, training=training, space=space, confirm=confirm)
    assert level == "warning"
    assert what.startswith(
        f"model {llama}: no run of the default to beat would have a result: pissa takes 64 directions"
    )
    assert told(llama, data_file, training=training, space=space, confirm={**confirm, "enabled": False}) == []


@pytest.mark.parametrize("broken, other", [("_rows", "model"), ("_models", "data")])
def test_a_look_that_breaks_off_hides_nothing_that_the_other_finds(llama, tmp_path, monkeypatch, broken, other):
    def breaks(*_):
        raise RuntimeError("odd\ncode")

    monkeypatch.setattr(look, broken, breaks)
    rows = write_rows(tmp_path / "rows.jsonl", [*pairs(9), {"prompt": 1, "completion": "x"}])
    found = told(llama, rows, training={"init_lora_weights": "olora", "lora_rank": 64})
    assert [(level, subject) for level, subject, _ in found] == [("error", other), ("unchecked", found[1][1])]
    assert found[1][2].endswith("broke off: RuntimeError: odd code")


def test_nothing_is_downloaded(data_file, monkeypatch):
    child = subprocess.run(
        [sys.executable, "-m", "hpo_service.training.look"],
        input=json.dumps({"study": study("some/model", data_file).model_dump(mode="json"), "rows": 10}),
        capture_output=True,
        text=True,
        timeout=240,
        env={"HF_ENDPOINT": "http://127.0.0.1:1", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )
    assert child.returncode == 0, child.stderr
    levels = {each["level"] for each in json.loads(child.stdout)["findings"]}
    assert levels == {"unchecked"}


@pytest.mark.parametrize(
    "more, said",
    [
        ({"reasoning_content": "because"}, "the chat template leaves out reasoning_content (40 times)"),
        ({"tools": [{"type": "function", "function": {"name": "look"}}]}, "the chat template leaves out tools (40"),
    ],
    ids=["reasoning", "tools"],
)
def test_what_a_template_leaves_out_is_counted(tmp_path, more, said):
    save_tiny_llama(tmp_path / "chat")
    byte_tokenizer(CHAT_TEMPLATE).save_pretrained(tmp_path / "chat")
    beside = more if "tools" in more else {}
    turn = {"role": "assistant", "content": "a", **({} if beside else more)}
    rows = [{"messages": [{"role": "user", "content": f"q{i}"}, turn], **beside} for i in range(40)]
    found = told(tmp_path / "chat", write_rows(tmp_path / "rows.jsonl", rows))
    assert any(what.startswith(said) for _, _, what in found)
    assert {level for level, *_ in found} == {"warning"}


def test_a_fault_that_differs_in_its_numbers_alone_is_told_once(llama, tmp_path):
    (tmp_path / "rows.csv").write_text("prompt,completion\n" + "".join(f"say {i},one, two\n" for i in range(40)))
    ((level, _, what),) = told(llama, tmp_path / "rows.csv")
    assert level == "error"
    assert what.endswith("row 1: does not have 2 fields as the header says (line 2) (and 39 more rows)")


def test_rows_behind_a_prefix_must_fit_too(llama, data_file):
    training = {"method": "prefix", "prefix_tokens": 500}
    ((level, _, what),) = told(llama, data_file, training=training)
    assert level == "error"
    assert "behind a prefix of 500 do not fit the" in what


def test_weights_in_bits_whose_library_is_not_here_are_a_warning(tmp_path, data_file):
    save_tiny_llama(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ((level, _, what),) = told(tmp_path, data_file)
    assert (level, what.startswith(f"on this machine every trial of model {tmp_path} would fail: ")) == (
        "warning",
        True,
    )
