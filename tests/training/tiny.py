"""Tiny random models in Hugging Face format, small data, and a supervisor that answers from a script."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.domain.trial.report import Report
from hpo_service.training.engines.solo import SoloEngine
from hpo_service.training.run.loaded_models import LoadedModels
from hpo_service.wire.child import Stopped, TrialLink
from hpo_service.wire.messages import Admit, Continue, Failed, Finished, Reported, Shutdown, Started, Stop
from tests.trials import admit, full, short

Decide = Callable[[Report], Stop | None]
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}</{{ message.role }}>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that starts text with BOS; BOS, EOS and padding differ."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=259, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.chat_template = chat_template
    return fast


def save_tiny_llama(folder: Path, seed: int = 0, width: int = 32) -> str:
    """Save a random two-layer Llama of this hidden size with its tokenizer and return its path."""
    tokenizer = byte_tokenizer(CHAT_TEMPLATE)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write rows as JSON lines and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs(count: int) -> list[dict[str, Any]]:
    """Rows whose completion follows from the prompt, of different lengths."""
    return [{"prompt": f"say {i} ", "completion": " ".join([f"number {i}"] * (1 + i % 4))} for i in range(count)]


class ScriptedSupervisor:
    """Stands in for pipe and supervisor: answers each report as told, and may order a stop in between."""

    def __init__(self, decide: Decide, at_progress: tuple[float, Stop] | None) -> None:
        self.decide, self.at_progress = decide, at_progress
        self.messages: list[Any] = []
        self.link: TrialLink | None = None

    def send(self, message: Any) -> None:
        self.messages.append(message)

    def touch(self, progress: Mapping[str, float] | None = None, activity: str = "") -> None:
        assert self.link is not None
        if self.at_progress and progress and max(progress.values()) >= self.at_progress[0]:
            self.link.receive(self.at_progress[1])

    @contextmanager
    def busy(self, activity: str, limit: float = 0.0) -> Iterator[None]:
        yield

    def hear(self, timeout: float | None) -> bool:
        if timeout == 0:
            return False
        assert self.link is not None
        report = self.messages[-1]
        assert isinstance(report, Reported)
        self.link.receive(self.decide(report.report) or Continue(trial=report.trial))
        return True


class Trainee:
    """Runs trials in this process and keeps what was said about the last one."""

    def __init__(self, llama: str, data: str, folder: Path) -> None:
        self.engine = SoloEngine(LoadedModels(folder / "cache"))
        self.llama, self.data, self.folder = llama, data, folder
        self.messages: list[Any] = []

    def config(self, *, data: dict[str, Any] | None = None, model: str | None = None, **training: Any) -> TrialConfig:
        fields = {"source": self.data, "max_length": 64, **(data or {})}
        keep = {name: training.pop(name) for name in ("score_test", "keep_adapter", "seed") if name in training}
        defaults = {
            "learning_rate": 5e-3,
            "lora_rank": 4,
            "effective_batch": 8,
            "evaluations_per_epoch": 4,
            "patience": 0,
        }
        return TrialConfig(
            study="study",
            stage="search",
            parameters={},
            model=ModelSpec(base=model or self.llama),
            model_name=model or self.llama,
            data=DataSpec.model_validate(fields),
            training=TrainingSpec.model_validate({**defaults, **training}),
            **{"seed": 7, **keep},
        )

    def run(
        self,
        config: TrialConfig,
        folder: str = "trial",
        *,
        decide: Decide = lambda report: None,
        at_progress: tuple[float, Stop] | None = None,
        engine: Any = None,
    ) -> Outcome:
        supervisor = ScriptedSupervisor(decide, at_progress)
        link = supervisor.link = TrialLink(admit(config, self.folder / folder), supervisor, supervisor.hear)
        self.messages = supervisor.messages
        try:
            return (engine or self.engine).run(link)
        except Stopped:
            return link.stopped()

    @property
    def reports(self) -> list[Report]:
        return [message.report for message in self.messages if isinstance(message, Reported)]

    @property
    def started(self) -> Started:
        return next(message for message in self.messages if isinstance(message, Started))


DecideFor = Callable[[str, Report], Stop | None]


class Crowd:
    """Stands in for the pipe to a supervisor of several trials; answers reports as told, then shuts down.

    `later` holds trials that are admitted when that many reports were heard.
    """

    def __init__(self, decide: DecideFor, later: dict[int, list[Admit]] | None = None) -> None:
        self.decide, self.later = decide, later or {}
        self.inbox: deque[Any] = deque()
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        message = short(message)
        self.sent.append(message)
        if isinstance(message, Reported):
            self.inbox.append(self.decide(message.trial, message.report) or Continue(trial=message.trial))
            self.inbox.extend(self.later.pop(len(self.of(Reported)), []))

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.sent if isinstance(message, kind)]

    def receive(self, timeout: float | None = None) -> Any:
        if self.inbox:
            return full(self.inbox.popleft())
        return None if timeout is not None else Shutdown()

    def touch(self, progress: Mapping[str, float] | None = None, activity: str = "") -> None: ...

    def forget(self, trial: str) -> None: ...

    def close(self) -> None: ...

    @contextmanager
    def busy(self, activity: str, limit: float = 0.0) -> Iterator[None]:
        yield

    def curve(self, trial: str) -> list[float]:
        return [message.report.value for message in self.of(Reported) if message.trial == trial]

    def outcome(self, trial: str) -> Outcome:
        for message in self.sent:
            assert not isinstance(message, Failed), message
        return next(m.outcome for m in self.of(Finished) if m.trial == trial)
