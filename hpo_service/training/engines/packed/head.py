"""From hidden states to token NLLs, at learned positions only and a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from hpo_service.errors import ModelError
from hpo_service.training.engines.packed.compiled import compiled
from hpo_service.training.engines.packed.passes import Pass

# Logits of one chunk, in elements: they are raised to float32, and their gradient is as large again.
CHUNK_CUDA, CHUNK_CPU = 2**28, 2**21
# Relative difference between this head and the model's own that rounding explains, by bytes of the type.
TOLERANCE = {4: 1e-5, 2: 2e-2}
# Ids that the head is tried on, and those that the model's own forward is told to mask after them.
TRIED, PADDED = 8, 4

Finish = Callable[[torch.Tensor, Any], torch.Tensor]

FINISHES: dict[str, Finish] = {
    # Gemma 2 and 3; Cohere; Granite: what their own forward does to the logits
    "final_logit_softcapping": lambda logits, cap: torch.tanh(logits / cap) * cap,
    "logit_scale": lambda logits, scale: logits * scale,
    "logits_scaling": lambda logits, scale: logits / scale,
}
"""Fields of a model's configuration that change its logits after the output embedding."""


class Head:
    """The decoder and the output embedding of a causal language model, apart; logits of `chunk` tokens at a time."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Take a model apart.

        Raises:
            ModelError: put together again, the parts give other logits than the model.
        """
        self._model = model
        self._decoder = model.base_model
        self._embedding: Any = model.get_output_embeddings()
        config = model.config.get_text_config()
        self._nll = self._plain_nll
        self._finishes = [(finish, getattr(config, name, None)) for name, finish in FINISHES.items()]
        vocabulary = int(config.vocab_size)
        self.chunk = max(1, (CHUNK_CUDA if model.device.type == "cuda" else CHUNK_CPU) // vocabulary)
        reason = self._difference(vocabulary)
        if reason:
            name = type(model).__name__
            raise ModelError(
                f"{name} makes its logits in a way of its own, so that its trials cannot be packed: {reason}"
            )

    def hidden(self, now: Pass) -> torch.Tensor:
        """Hidden states [n, width] at the learned positions of a pass, after the decoder's last norm."""
        states: torch.Tensor = self._decoder(input_ids=now.ids, use_cache=False).last_hidden_state
        return states.flatten(0, 1).index_select(0, now.positions)

    def nll(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """-log p(target) in nats, float32, of each hidden state; no gradient."""
        with torch.no_grad():
            parts = [self._nll(h, t) for h, t in zip(hidden.split(self.chunk), targets.split(self.chunk), strict=True)]
        return torch.cat(parts)

    def backward(self, hidden: torch.Tensor, now: Pass) -> torch.Tensor:
        """Send the gradient of sum(weight x NLL) through the decoder; return the NLLs.

        Each chunk's gradient with respect to its hidden states is taken while its logits exist: those of the whole pass
        never do. Nothing mixes rows, so that an NLL that is not a number spoils its own row alone.
        """
        gradient = torch.empty_like(hidden)
        nlls = []
        for begin in range(0, len(hidden), self.chunk):
            part = slice(begin, begin + self.chunk)
            with torch.enable_grad():
                states = hidden[part].detach().requires_grad_()
                nll = self._nll(states, now.targets[part])
                (gradient[part],) = torch.autograd.grad((nll * now.weights[part]).sum(), states)
            nlls.append(nll.detach())
        hidden.backward(gradient)
        return torch.cat(nlls)

    def _plain_nll(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self._logits(hidden).float()
        return torch.nn.functional.cross_entropy(logits, targets, reduction="none")

    def compile(self) -> None:
        """Have logits, softmax and their gradient compiled together: logits are then read and written fewer times."""
        self._nll = compiled(self._plain_nll)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._embedding(hidden)
        for finish, value in self._finishes:
            if value is not None:
                logits = finish(logits, value)
        return logits

    def _difference(self, vocabulary: int) -> str:
        """What the model's own logits and those of its parts differ in, on a few ids; nothing where they agree.

        The model is given a padded row with its mask, the parts without one.
        """
        ids = torch.arange(1, TRIED + PADDED + 1, device=self._model.device).remainder(vocabulary).unsqueeze(0)
        mask = (torch.arange(TRIED + PADDED, device=self._model.device) < TRIED).long().unsqueeze(0)
        was_training = self._model.training
        self._model.eval()
        try:
            with torch.no_grad():
                theirs = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :TRIED]
                ours = self._logits(self._decoder(input_ids=ids, use_cache=False).last_hidden_state[:, :TRIED])
        # models come with code of their own, which lacks what it likes
        except (AttributeError, TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            self._model.train(was_training)
        if ours.shape != theirs.shape:
            return f"logits of shape {tuple(ours.shape)} are not {tuple(theirs.shape)}"
        tolerance = TOLERANCE[min(4, ours.element_size())] * float(theirs.abs().max())
        apart = float((ours - theirs).abs().max())
        return "" if apart <= tolerance else f"logits differ by {apart:.3g}"
