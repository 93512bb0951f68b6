"""The measure: a sum over tokens that no batch size moves."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from hpo_service.training.data.formats import Example
from hpo_service.training.data.tokens import IGNORED, tokenise
from hpo_service.training.scoring import evaluation
from hpo_service.training.scoring.evaluation import evaluate
from tests.training.tiny import byte_tokenizer, pairs


@pytest.fixture(scope="module")
def rows():
    examples = [Example("row", each["prompt"], each["completion"]) for each in pairs(33)]
    return tokenise(examples, byte_tokenizer(), 64).rows


@pytest.fixture(scope="module")
def model(llama):
    return AutoModelForCausalLM.from_pretrained(llama)


def by_hand(model, row):
    ids = torch.tensor(row.ids[None], dtype=torch.long)
    with torch.no_grad():
        logs = torch.log_softmax(model(input_ids=ids).logits.double(), -1)
    return -sum(float(logs[0, at - 1, token]) for at, token in enumerate(row.ids) if row.labels[at] != IGNORED)


def test_each_row_gets_the_sum_over_its_learned_tokens(model, rows):
    scores = evaluate(model, rows, 2)
    assert scores.tokens == [row.supervised for row in rows]
    for row, nll in zip(rows, scores.nll, strict=True):
        assert nll == pytest.approx(by_hand(model, row), abs=1e-4)
    assert scores.mean == pytest.approx(sum(scores.nll) / sum(scores.tokens))


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_the_evaluation_batch_changes_nothing(model, rows, batch):
    reference = evaluate(model, rows, 2)
    scores = evaluate(model, rows, 2, batch_rows=batch)
    assert scores.mean == pytest.approx(reference.mean, abs=1e-6)
    assert scores.nll == pytest.approx(reference.nll, abs=1e-4)


def test_neither_the_padding_id_nor_the_chunk_changes_anything(model, rows, monkeypatch):
    reference = evaluate(model, rows, 2, batch_rows=8)
    assert evaluate(model, rows, 0, batch_rows=8).nll == pytest.approx(reference.nll, abs=1e-4)
    monkeypatch.setattr(evaluation, "CHUNK", 7)
    assert evaluate(model, rows, 2, batch_rows=8).nll == pytest.approx(reference.nll, abs=1e-5)


def test_batches_are_bounded_by_the_size_of_their_logits(model, rows, monkeypatch):
    sizes = []
    plain = evaluation.collate
    monkeypatch.setattr(evaluation, "collate", lambda part, padding: sizes.append(len(part)) or plain(part, padding))
    monkeypatch.setattr(evaluation, "LOGITS_CPU", 259 * 100)
    evaluate(model, rows, 2)
    assert sum(sizes) == len(rows)
    assert max(sizes) < 10
    longest = max(len(row.ids) for row in rows)
    assert sizes[-1] == 100 // longest


def test_evaluation_draws_no_random_numbers_and_gives_signs_of_life(model, rows):
    touches = []
    before = torch.random.get_rng_state()
    evaluate(model, rows, 2, batch_rows=10, touch=lambda: touches.append(1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(touches) == 4


def test_half_precision_is_close(model, rows):
    full, half = evaluate(model, rows, 2), evaluate(model, rows, 2, compute=torch.bfloat16)
    assert half.mean == pytest.approx(full.mean, rel=0.02)
    assert half.mean != full.mean
