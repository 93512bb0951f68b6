"""Optimizers and schedules by name: transformers' own, and the few it does not have."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from torch import nn

from hpo_service.domain.study.hyperparameters import Hyperparameters
from hpo_service.training.data.batches import RowTrainer
from hpo_service.training.run.expert_balance import ExpertBalance
from hpo_service.training.run.schedules import own_schedule


class OptimizerTrainer(RowTrainer):
    """The Trainer with what it does not offer by name: LoRA+ and two more schedules.

    Attributes:
        hyper: what it learns by; set before training begins.
        balance: the auxiliary loss of a model with experts, where it has one.
    """

    hyper: Hyperparameters
    balance: ExpertBalance | None = None

    def compute_loss(self, model: Any, inputs: dict[str, Any], *given: Any, **named: Any) -> Any:
        """Compute the loss; that of experts is told which row each token belongs to."""
        if self.balance is not None:
            self.balance.see(inputs)
        return super().compute_loss(model, inputs, *given, **named)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer by its name; with a LoRA+ ratio B learns that much faster than A (arXiv 2402.12354)."""
        hyper = self.hyper
        if self.optimizer is None and hyper.lora_plus_ratio != 1 and isinstance(self.model, PeftModel):
            kind, arguments = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = create_loraplus_optimizer(
                self.model,
                kind,
                lr=arguments.pop("lr"),
                loraplus_lr_ratio=hyper.lora_plus_ratio,
                loraplus_weight_decay=hyper.weight_decay,
                # adapters on embeddings are adapters like others; left out, they would hardly learn
                loraplus_lr_embedding=hyper.learning_rate,
                **arguments,
            )
        return super().create_optimizer(model)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The schedule by its name."""
        if self.lr_scheduler is None:
            warmup = self.args.get_warmup_steps(num_training_steps)
            optimizer = optimizer or self.optimizer
            assert optimizer is not None
            self.lr_scheduler = own_schedule(self.hyper, optimizer, warmup, num_training_steps)
        return super().create_scheduler(num_training_steps, optimizer)
