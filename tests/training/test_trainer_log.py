"""What transformers' own Trainer writes beside its checkpoints is a log that can be diagnosed."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from hpo_service.domain.advise.diagnosis import diagnose
from hpo_service.service.advice.logs import read_log


def train(llama, folder, rate):
    rows = [{"input_ids": torch.arange(4, 12), "labels": torch.arange(4, 12)}] * 48
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=24,
        per_device_train_batch_size=2,
        learning_rate=rate,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_steps=12,
        max_grad_norm=1e9,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        optim="sgd",
    )
    Trainer(model=AutoModelForCausalLM.from_pretrained(llama), args=arguments, train_dataset=rows).train()
    return read_log(folder)


def test_the_log_of_the_last_checkpoint_is_read_whole(llama, tmp_path):
    file, log = train(llama, tmp_path, 0.05)
    assert file.parent.name == "checkpoint-24"
    assert (len(log.train), len(log.norms), len(log.rates)) == (24, 24, 24)
    assert log.train.values[-1] < log.train.values[0]
    assert "not a number" not in {each.name for each in diagnose(log)}


def test_a_rate_that_is_far_too_high_is_seen_in_it(llama, tmp_path):
    _, log = train(llama, tmp_path, 1e4)
    assert [(each.name, each.level) for each in diagnose(log)] == [("no signal", "severe")]
