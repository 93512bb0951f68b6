"""Inputs that no trial can be trained on: each ends its trial with one clear line, not worth another attempt."""

import shutil

import pytest

from hpo_service.errors import DataError, ModelError
from tests.training.tiny import byte_tokenizer, pairs, write_rows

CHAT = [{"messages": [{"role": "user", "content": f"{i}"}, {"role": "assistant", "content": "yes"}]} for i in range(60)]


def corrupt_row(trainee, folder):
    rows = [*pairs(30), {"prompt": "say", "completion": 7}, *pairs(30)]
    source = write_rows(folder / "rows.jsonl", rows)
    return {"data": {"source": source}}, DataError, f"{source}, line 31: column 'completion' must be text, not a int"


def broken_line(trainee, folder):
    source = write_rows(folder / "rows.jsonl", pairs(30))
    with (folder / "rows.jsonl").open("a") as stream:
        stream.write('{"prompt": "say", "comp')
    return {"data": {"source": source}}, DataError, f"{source}, line 31 is not valid JSON: Unterminated string"


def empty_split(trainee, folder):
    source = write_rows(folder / "rows.jsonl", pairs(3))
    told = "the validation part is empty: 3 rows were cut into 3 for training, 0 for validation and 0 for testing"
    return {"data": {"source": source, "split": {"validation": 0.01, "test": 0.01}}}, DataError, told


def template_without_the_assistant(trainee, folder):
    model = shutil.copytree(trainee.llama, folder / "model")
    template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    byte_tokenizer(template).save_pretrained(model)
    source = write_rows(folder / "rows.jsonl", CHAT)
    told = "the model's chat template shows no turn of the assistant"
    return {"model": str(model), "data": {"source": source}}, DataError, told


def no_template(trainee, folder):
    model = shutil.copytree(trainee.llama, folder / "model")
    (model / "chat_template.jinja").unlink()
    source = write_rows(folder / "rows.jsonl", CHAT)
    told = "the model's tokenizer has no chat template, so conversations cannot be rendered"
    return {"model": str(model), "data": {"source": source}}, DataError, told


def missing_tokenizer(trainee, folder):
    model = shutil.copytree(trainee.llama, folder / "model")
    for file in model.glob("token*"):
        file.unlink()
    return {"model": str(model)}, ModelError, f"model {model} has no usable tokenizer: "


def another_models_tokens(trainee, folder):
    source = write_rows(folder / "rows.jsonl", [{"input_ids": [i % 259, 300]} for i in range(60)])
    told = "the token 300 is not in the vocabulary of 259 of the model's tokenizer"
    return {"data": {"source": source}}, DataError, told


@pytest.mark.parametrize(
    "make",
    [
        corrupt_row,
        broken_line,
        empty_split,
        template_without_the_assistant,
        no_template,
        missing_tokenizer,
        another_models_tokens,
    ],
    ids=lambda make: make.__name__.replace("_", " "),
)
def test_a_trial_on_unusable_inputs_ends_with_one_clear_line(trainee, tmp_path, make):
    changes, kind, told = make(trainee, tmp_path)
    with pytest.raises(kind) as caught:
        trainee.run(trainee.config(**changes))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not caught.value.retryable
