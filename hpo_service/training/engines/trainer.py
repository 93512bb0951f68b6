"""A run in terms of transformers: its arguments, its Trainer, and the loss where a model lacks the right one."""

from __future__ import annotations

import torch
from peft import PeftModel
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, TrainingArguments

from hpo_service.domain.trial.config import TrialConfig
from hpo_service.training.data.batches import Batches, LengthGrouped
from hpo_service.training.data.tokens import IGNORED, TokenRow, TokenRows
from hpo_service.training.distributed.process_group import ProcessGroup
from hpo_service.training.engines.data_parallel import DataParallelTrainer, RankCollator
from hpo_service.training.engines.row_order import RowOrder
from hpo_service.training.models import activation_checkpointing
from hpo_service.training.models.base import Base
from hpo_service.training.run.expert_balance import ExpertBalance
from hpo_service.training.run.schedules import SCHEDULES
from hpo_service.training.run.steps import StepPlan


class _Rows(Dataset[TokenRow]):
    def __init__(self, rows: TokenRows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> TokenRow:
        return self._rows[index]


def build_trainer(
    config: TrialConfig,
    plan: StepPlan,
    base: Base,
    rows: TokenRows,
    model: PreTrainedModel | PeftModel,
    monitor: TrainerCallback,
    scratch: str,
    ranks: ProcessGroup,
) -> DataParallelTrainer:
    """The Trainer of one run: `model` on `rows` as the plan says, seen by `monitor` at every step.

    `scratch` is a folder the Trainer may think its own; nothing is saved there.
    """
    batches = _batches(config, base.padding)
    trainer = DataParallelTrainer(
        model=model,
        args=_arguments(config, plan, base, scratch),
        train_dataset=_Rows(rows),
        data_collator=batches if ranks.size == 1 else RankCollator(ranks, batches),
        callbacks=[monitor],
    )
    trainer.hyper = config.training
    trainer.batches = batches
    if config.training.group_by_length:
        trainer.order = LengthGrouped(rows.lengths.tolist(), config.training.effective_batch, config.seed)
    elif config.training.order != "shuffled":
        trainer.order = RowOrder(config.training.order, rows.lengths, config.seed)
    trainer.remove_callback(PrinterCallback)
    trainer.ranks, trainer.sharded = ranks, base.key.sharded
    trainer.weighted = rows.weighted

    def loss(outputs: dict[str, torch.Tensor], labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        return token_loss(outputs, labels, num_items_in_batch, trainer.weights)

    trainer.balance = ExpertBalance.of(base.model, loss)
    if trainer.balance is not None:
        trainer.compute_loss_func = trainer.balance
    elif trainer.weighted or not trainer.model_accepts_loss_kwargs:
        # the model would average each micro-batch by itself; what counts is the whole effective batch
        trainer.compute_loss_func = loss
    return trainer


def _batches(config: TrialConfig, padding: int) -> Batches:
    packed = config.data is not None and config.data.pack_rows
    return Batches(padding, config.data.max_length if config.data and packed else None)


def _arguments(config: TrialConfig, plan: StepPlan, base: Base, scratch: str) -> TrainingArguments:
    spec, cuda, compute = config.training, base.model.device.type == "cuda", base.key.compute
    schedule = SCHEDULES[spec.scheduler]
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=spec.epochs,
        # with several ranks each takes its rows out of the batch of all
        per_device_train_batch_size=plan.micro_batch * plan.ranks,
        gradient_accumulation_steps=plan.accumulation,
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        optim=spec.optimizer,
        lr_scheduler_type="constant" if schedule.shape else spec.scheduler,
        lr_scheduler_kwargs=schedule.arguments(spec) or None,
        # a run of one step would otherwise be all warm-up, at a learning rate of 0
        warmup_steps=min(plan.warmup_steps, plan.steps - 1),
        max_grad_norm=spec.max_grad_norm,
        seed=config.seed,
        data_seed=config.seed,
        bf16=compute == torch.bfloat16,
        fp16=compute == torch.float16,
        **activation_checkpointing.argument(spec.checkpoints_activations(base.facts.parameters or 0, on_gpu=cuda)),
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        include_num_input_tokens_seen="non_padding",
        logging_steps=1,
        # a loss that is not a number must be seen, not replaced
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def token_loss(
    outputs: dict[str, torch.Tensor],
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum of token NLLs over the number of supervised tokens in the whole effective batch.

    With `weights` [rows, length] each token counts so many times in both.
    """
    logits, targets = outputs["logits"][:, :-1].float(), labels[:, 1:]
    nll = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum" if weights is None else "none"
    )
    total = nll if weights is None else (nll * weights[:, 1:].flatten()).sum()
    return total / num_items_in_batch
