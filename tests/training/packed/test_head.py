"""A model's decoder and output embedding, apart, give the model's own losses."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig

from hpo_service.errors import ModelError
from hpo_service.training.engines.packed import head as head_module
from hpo_service.training.engines.packed.head import Head
from tests.training.families import FAMILIES, GROUPED

OTHERS = {
    "gemma2": Gemma2Config(**GROUPED, head_dim=8, final_logit_softcapping=0.05, attn_logit_softcapping=5.0),
    "cohere": CohereConfig(**GROUPED, logit_scale=3.0),
    "granite": GraniteConfig(**GROUPED, logits_scaling=7.0),
}


def model_of(family):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config({**FAMILIES, **OTHERS}[family], attn_implementation="eager")
    return model.eval().requires_grad_(False)


def some_rows(model):
    ids = torch.randint(3, 250, (3, 9), generator=torch.Generator().manual_seed(1))
    positions = torch.tensor([0, 3, 7, 9, 12, 18, 25])
    row, column = positions // 9, positions % 9
    weights = torch.linspace(0.1, 1.0, len(positions))
    now = SimpleNamespace(ids=ids, positions=positions, targets=ids[row, column + 1], weights=weights)
    # the last row ends after eight tokens: the model is told so, the head is not
    mask = torch.ones_like(ids)
    mask[2, 8:] = 0
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[row, column]
    return now, torch.nn.functional.cross_entropy(logits.float(), now.targets, reduction="none")


@pytest.mark.parametrize("family", sorted({**FAMILIES, **OTHERS}))
@pytest.mark.parametrize("chunk", [3, 1000])
def test_losses_and_gradients_are_those_of_the_model_whatever_its_family(family, chunk, monkeypatch):
    monkeypatch.setattr(head_module, "CHUNK_CPU", chunk * 259)
    model = model_of(family)
    head = Head(model)
    embedding = model.get_input_embeddings().weight.requires_grad_()
    now, expected = some_rows(model)
    (expected * now.weights).sum().backward()
    gradient, embedding.grad = embedding.grad, None
    hidden = head.hidden(now)
    torch.testing.assert_close(head.nll(hidden.detach(), now.targets), expected.detach(), rtol=1e-5, atol=1e-6)
    tied = model.get_output_embeddings().weight is embedding
    found = head.backward(hidden, now)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-6)
    if not tied:
        # a tied output embedding is frozen in a pack, but not in this test's reference
        torch.testing.assert_close(embedding.grad, gradient, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_no_number_spoils_the_gradient_of_its_own_row():
    model = model_of("llama")
    head = Head(model)
    now, _ = some_rows(model)
    hidden = head.hidden(now).requires_grad_()
    spoiled = hidden.detach().clone()
    spoiled[0] = torch.nan
    spoiled.requires_grad_()
    head.backward(spoiled * 1.0, now)
    assert spoiled.grad[0].isnan().all()
    assert spoiled.grad[1:].isfinite().all()


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda model: setattr(model, "get_output_embeddings", lambda: None), "NoneType"),
        (lambda model: model.lm_head.register_forward_hook(lambda *_: torch.zeros(1, 8, 3)), ""),
        (lambda model: model.register_forward_hook(lambda m, i, o: setattr(o, "logits", o.logits * 2)), "differ by"),
        (lambda model: model.register_forward_hook(lambda m, i, o: setattr(o, "logits", o.logits[..., :9])), "shape"),
    ],
)
def test_a_model_that_does_more_than_its_parts_is_refused(change, reason):
    model = model_of("llama")
    change(model)
    if not reason:
        # a changed output embedding is part of both, and no reason to refuse
        assert Head(model) is not None
        return
    with pytest.raises(ModelError, match=f"makes its logits in a way of its own.*{reason}"):
        Head(model)
