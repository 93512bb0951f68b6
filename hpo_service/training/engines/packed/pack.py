"""A pack: trials side by side on one frozen base, admitted and evicted at tick boundaries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import nn

from hpo_service.domain.memory.fit import pack_that_fits
from hpo_service.domain.trial.scores import Scores
from hpo_service.filestore.attempts import keep_adapter
from hpo_service.training.data.rows import StudyRows
from hpo_service.training.engines.packed.compiled import CompiledLayers, layers_of
from hpo_service.training.engines.packed.eligible import NotPackedError, module_refusal
from hpo_service.training.engines.packed.head import Head
from hpo_service.training.engines.packed.passes import Cutter, Pass, RowTable, Share, onto
from hpo_service.training.engines.packed.products import fast_products, slow_layers
from hpo_service.training.engines.packed.slot import STATE_KINDS, Slot, adamw, read_state, schedule, write_state
from hpo_service.training.engines.packed.stack import Adapter, Factors, Stack, Target
from hpo_service.training.models.adapter import trainable
from hpo_service.training.models.base import Base
from hpo_service.training.run.checkpoint import replace_folder
from hpo_service.training.run.device_memory import release_memory
from hpo_service.training.run.history import History
from hpo_service.training.run.job import Job
from hpo_service.training.run.monitor import Monitor
from hpo_service.training.run.oom import until_out_of_memory
from hpo_service.training.run.saved_adapter import save_with_tokenizer
from hpo_service.training.run.task_metrics import write_answers
from hpo_service.training.scoring.evaluation import autocast

PREFIX = "base_model.model."
# Tokens of one pass, padding included: on a CPU its activations should stay in the caches, a GPU wants them many.
TOKENS_CUDA, TOKENS_CPU = 32_768, 1_536
# Where memory runs out, passes are halved down to this before trials have to leave.
LEAST_TOKENS = 512


@dataclass(frozen=True)
class _NewAdapter:
    adapter: Adapter
    weights: Factors
    targets: dict[str, Target]
    trainable: int


class Pack:
    """Trials that share a base and a study's rows. What happens to one changes no number of another."""

    def __init__(
        self, base: Base, rows: StudyRows, clock: Callable[[], float] = time.monotonic, *, compiled: bool = False
    ) -> None:
        """Make an empty pack, whose layers and losses torch compiles if asked to.

        Raises:
            ModelError: the model cannot be packed.
        """
        self.base, self.rows = base, rows
        self.slots: list[Slot] = []
        self._clock = clock
        self._tables = {id(part): RowTable(part) for part in (rows.train, rows.validation, rows.test)}
        self._head = Head(base.model)
        self._slow_layers = slow_layers(base.model, base.key.compute)
        self._stack: Stack | None = None
        self._merges = True
        self._layers = CompiledLayers(layers_of(base.model) if compiled else ())
        if compiled:
            self._head.compile()
        self.tokens = TOKENS_CUDA if base.model.device.type == "cuda" else TOKENS_CPU
        base.model.requires_grad_(False)

    def plan(self, job: Job, most: int) -> tuple[int, str]:
        """Choose passes that the device is thought to hold beside as many trials like this one as it can, up to `most`.

        Returns how many that are, and why no more.
        """
        if job.need.demand is None:
            return most, ""
        sizes = (min(LEAST_TOKENS, self.tokens), self.tokens)
        fit = pack_that_fits(job.need.demand, most, job.pressure.capacity_gb, sizes, self._head.chunk)
        self.tokens = fit.pass_tokens
        return fit.trials, fit.short

    @property
    def places(self) -> int:
        """Trials that it holds without growing."""
        return 0 if self._stack is None else self._stack.slots

    @property
    def stack(self) -> Stack:
        """The adapters; there are some as soon as a trial was admitted."""
        assert self._stack is not None
        return self._stack

    def admit(self, job: Job, capacity: int) -> Slot:
        """Take in a trial, from its checkpoint where one fits.

        Args:
            job: the trial.
            capacity: trials to make room for, if room must be made.

        Raises:
            NotPackedError: its adapters cannot be stacked.
        """
        return self._admit(job, self._new_adapter(job), capacity)

    def admit_copies(self, job: Job, count: int) -> list[Slot]:
        """Take in a trial so many times, whose adapter is drawn once; raises as `admit`."""
        new = self._new_adapter(job)
        return [self._admit(job, new, count) for _ in range(count)]

    def _admit(self, job: Job, new: _NewAdapter, capacity: int) -> Slot:
        index = self._place(new, capacity)
        checkpoint, refused = job.store.newest()
        state, tokens = ({"weight": new.weights}, 0) if checkpoint is None else read_state(checkpoint.folder)
        self.stack.put(index, new.adapter, state)
        step = checkpoint.step if checkpoint is not None else 0
        monitor = Monitor(
            link=job.link,
            spec=job.config.training,
            plan=job.plan,
            history=checkpoint.history if checkpoint is not None else History(),
            score=lambda _whole: Scores(nll=[], tokens=[]),
            save=lambda: None,
            clock=self._clock,
            watched=job.watched_rows,
        )
        optimizer = adamw(job.config.training)
        self._attach(optimizer, index, step)
        slot = Slot(
            job=job,
            monitor=monitor,
            adapter=new.adapter,
            table=self._tables[id(self.rows.train)],
            index=index,
            optimizer=optimizer,
            scheduler=schedule(job, optimizer, step),
            trainable=new.trainable,
            resumed_at=step,
            refused=refused,
            step=step,
            tokens=tokens,
        )
        monitor.save = lambda: job.store.save(slot.step, monitor.history, lambda folder: self._write(slot, folder))
        monitor.begin(step, tokens)
        self.slots.append(slot)
        self.slots.sort(key=lambda each: each.index)
        return slot

    def evict(self, slot: Slot) -> None:
        """Let a trial go and scrub its place."""
        self.slots.remove(slot)
        self.stack.scrub(slot.index)

    def close(self) -> None:
        """Leave the base as it was."""
        if self._stack is not None:
            self._stack.close()
            self._stack = None

    def forward_backward(self, shares: Sequence[Share]) -> torch.Tensor:
        """Run micro-batches through the base and add their gradients; return each share's part of the loss.

        They stay on the device, float64 [shares]: whoever reads a number waits until the device has got that far.
        """
        model = self.base.model
        model.train()
        sums = torch.zeros(self.stack.slots, dtype=torch.float64, device=model.device)
        for now in self._cutter(self._tables[id(self.rows.train)]).cut(shares):
            with self._through(now):
                hidden = self._head.hidden(now)
                nll = self._head.backward(hidden, now)
            sums.index_add_(0, now.owners, nll.double() * now.weights)
        return sums.index_select(0, onto(np.asarray([share.slot for share in shares]), model.device))

    def step(self, slots: Sequence[Slot]) -> list[tuple[float, float]]:
        """Clip, make an optimizer step and clear the gradient of each slot; return losses and norms before clipping.

        The host asks the device for a number once, when all has been sent to it.
        """
        stack = self.stack
        rows = onto(np.asarray([slot.index for slot in slots]), stack.device)
        every = len(slots) == stack.slots
        grad = stack.grad if every else stack.grad.index_select(0, rows)
        norms = torch.linalg.vector_norm(grad, dim=1)
        limits = onto(np.asarray([slot.job.config.training.max_grad_norm for slot in slots], np.float32), stack.device)
        grad.mul_((limits / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1))
        if not every:
            stack.grad.index_copy_(0, rows, grad)
        for slot in slots:
            # one fused kernel over the whole adapter; a stacked AdamW in plain operations reads memory twelve times
            slot.optimizer.step()
            slot.scheduler.step()
            slot.step += 1
        if every:
            stack.grad.zero_()
        else:
            stack.grad.index_fill_(0, rows, 0.0)
        sums = torch.stack([sum_ for slot in slots for sum_ in slot.sums])
        found = iter(torch.cat([norms.double(), sums]).tolist())
        seen = [float(next(found)) for _ in slots]
        return [(slot.end_batch(found), norm) for slot, norm in zip(slots, seen, strict=True)]

    def rewind(self) -> None:
        """Go back to every trial's last optimizer step: forget gradients of effective batches under way."""
        for slot in self.slots:
            slot.rewind()
        self.stack.grad.zero_()

    def evaluate(self, slots: Sequence[Slot], part: str, touch: Callable[[], object] = lambda: None) -> list[Scores]:
        """Score with each slot's adapter, all in the same passes: "validation", "test", or "watched" as is due."""
        rows, model = self.rows.test if part == "test" else self.rows.validation, self.base.model
        table, counts = self._tables[id(rows)], [s.rows_due if part == "watched" else len(rows) for s in slots]
        model.eval()
        sums = torch.zeros(sum(counts), dtype=torch.float64, device=model.device)
        owners = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
        shares = [Share(slot.index, own - own[0], own) for slot, own in zip(slots, owners, strict=True)]

        def score(some: Sequence[Share], *, merged: bool) -> None:
            for now in self._cutter(table).cut(some):
                with self._through(now, merged=merged):
                    nll = self._head.nll(self._head.hidden(now), now.targets)
                sums.index_add_(0, now.owners, nll.double())
                touch()

        with torch.no_grad():
            merges = self._merges and self.base.key.compute is torch.float32
            if merges and self.stack.worth_merging(int(table.lengths[: min(counts)].sum())):
                for share in shares:
                    with self.stack.merged(share.slot):
                        score([share], merged=True)
            else:
                score(shares, merged=False)
        tokens = table.supervised.tolist()
        return [Scores(nll=nll.tolist(), tokens=tokens[: len(nll)]) for nll in sums.cpu().split(counts)]

    def save_adapter(self, slot: Slot) -> str:
        """Save a slot's adapter in PEFT's own format; return its folder."""
        link = slot.job.link
        target = link.folder.adapter
        with link.busy("saving the adapter"), self._with_adapter(slot) as model:
            replace_folder(target, lambda folder: save_with_tokenizer(model, slot.job.base.tokenizer, folder))
        return keep_adapter(link)

    def answer(self, slot: Slot, prompts: list[list[int]]) -> list[list[int]]:
        """Continue prompts of token ids with a slot's adapter."""
        with self._with_adapter(slot) as model:
            return write_answers(slot.job, model, prompts)

    @contextmanager
    def _with_adapter(self, slot: Slot) -> Iterator[PeftModel]:
        """The base with a slot's adapter as PEFT puts it on; no pass may be under way."""
        job = slot.job
        with trainable(self.base.model, job.config.training, job.config.seed) as model:
            assert isinstance(model, PeftModel)
            set_peft_model_state_dict(model, self._peft_weights(slot))
            yield model
        self.base.model.requires_grad_(False)

    def _peft_weights(self, slot: Slot) -> dict[str, torch.Tensor]:
        return {
            f"{PREFIX}{name}.lora_{letter}.weight": tensor
            for name, pair in self.stack.take(slot.index, slot.adapter).items()
            for letter, tensor in zip("AB", pair, strict=True)
        }

    def _write(self, slot: Slot, folder: Path) -> None:
        write_state(
            folder, {kind: self.stack.take(slot.index, slot.adapter, kind) for kind in STATE_KINDS}, slot.tokens
        )

    @contextmanager
    def _through(self, now: Pass, *, merged: bool = False) -> Iterator[None]:
        """A pass under way: the hooks know it if they are to add, and products are made in the base's compute type."""
        self.stack.enter(None if merged else now)
        typed = autocast(self.base.model.device, self.base.key.compute)
        try:
            with typed, fast_products(self._slow_layers), self._layers.used():
                yield
        finally:
            self.stack.enter(None)

    def halve_passes(self) -> bool:
        """Send half as many tokens through the base at once, without copies of its weights; tell whether that helps."""
        self._merges = False
        if self.tokens <= LEAST_TOKENS:
            return False
        self.tokens = max(LEAST_TOKENS, self.tokens // 2)
        return True

    def _cutter(self, table: RowTable) -> Cutter:
        return Cutter(table, self.base.padding, self.stack.slots, self.tokens, self.stack.device)

    def _new_adapter(self, job: Job) -> _NewAdapter:
        """Have PEFT draw a trial's adapter exactly as for the solo engine, and take it off again."""
        weights: Factors = {}
        scaling: dict[str, float] = {}
        targets: dict[str, Target] = {}
        hyper = job.config.training
        output = self.base.model.get_output_embeddings()
        with trainable(self.base.model, hyper, job.config.seed) as model:
            for path, module in model.named_modules():
                if isinstance(module, LoraLayer):
                    name = path.removeprefix(PREFIX)
                    refused = module_refusal(name, module.get_base_layer(), output)
                    if refused:
                        raise NotPackedError(refused)
                    weights[name] = (_weight(module.lora_A), _weight(module.lora_B))
                    scaling[name] = float(module.scaling["default"])
                    targets[name] = Target(
                        module.get_base_layer(), weights[name][0].shape[1], weights[name][1].shape[0]
                    )
        self.base.model.requires_grad_(False)
        count = sum(a.numel() + b.numel() for a, b in weights.values())
        return _NewAdapter(Adapter(hyper.lora_rank, scaling, hyper.lora_dropout), weights, targets, count)

    def _place(self, new: _NewAdapter, capacity: int) -> int:
        """A free slot that the adapter fits, in a larger stack where there is none."""
        taken = {slot.index for slot in self.slots}
        if self._stack is None:
            self._stack = Stack(new.targets, capacity, new.adapter.rank, self.base.model.device)
        elif not self._stack.holds(new.adapter) or len(taken) >= self._stack.slots:
            rank = max(new.adapter.rank, self._stack.rank)
            self._rebuild({**self._stack.targets, **new.targets}, max(capacity, len(taken) + 1), rank)
            taken = set(range(len(self.slots)))
        return next(index for index in range(self.stack.slots) if index not in taken)

    def shrink(self) -> None:
        """Give back the room of slots that nobody is in."""
        if self.slots and len(self.slots) < self.stack.slots:
            rank = max(slot.adapter.rank for slot in self.slots)
            used = {name for slot in self.slots for name in slot.adapter.scaling}
            targets = {name: target for name, target in self.stack.targets.items() if name in used}
            self._rebuild(targets, len(self.slots), rank)

    def _rebuild(self, targets: Mapping[str, Target], slots: int, rank: int) -> None:
        """Move everyone into a new stack; by way of the host's memory, for a GPU need not hold both.

        Gradients of effective batches under way move too. Where memory runs out everyone is back in a stack as it was.
        """
        old = self.stack
        before = partial(Stack, old.targets, old.slots, old.rank, old.device)
        states = [
            {kind: _on_host(old.take(slot.index, slot.adapter, kind)) for kind in (*STATE_KINDS, "grad")}
            for slot in self.slots
        ]
        old.close()
        self._stack = None
        del old
        for slot in self.slots:
            _detach(slot.optimizer)
        new, ran_out = until_out_of_memory(partial(Stack, dict(targets), slots, rank, self.base.model.device))
        if new is None:
            release_memory()
            new = before()
        self._stack = new
        for index, (slot, state) in enumerate(zip(self.slots, states, strict=True)):
            slot.index = index
            new.put(index, slot.adapter, state)
            self._attach(slot.optimizer, index, slot.step)
        if ran_out is not None:
            raise ran_out

    def _attach(self, optimizer: torch.optim.Optimizer, index: int, step: int) -> None:
        """Let an optimizer work on a row of the stack: weights, gradient and moments are that row's own memory."""
        stack = self.stack
        (parameter,) = optimizer.param_groups[0]["params"]
        parameter.data = stack.weight[index]
        parameter.grad = stack.grad[index]
        where = stack.device if stack.device.type == "cuda" else None
        optimizer.state[parameter] = {
            "step": torch.tensor(float(step), device=where),
            "exp_avg": stack.first[index],
            "exp_avg_sq": stack.second[index],
        }


def _detach(optimizer: torch.optim.Optimizer) -> None:
    """Take an optimizer off its row, whose memory is held by nothing else once the stack is gone."""
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.data, parameter.grad = torch.zeros(0), None
    optimizer.state.clear()


def _weight(factors: nn.ModuleDict) -> torch.Tensor:
    weight = factors["default"].get_parameter("weight")
    return weight.detach().clone()


def _on_host(factors: Factors) -> Factors:
    return {name: (a.cpu(), b.cpu()) for name, (a, b) in factors.items()}
