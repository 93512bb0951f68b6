"""Answers to prompts: greedy, the same in any batch, and measured without costing a trial its result."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from hpo_service.domain.study.sections.evaluation import EvaluationSpec
from hpo_service.domain.trial.outcome import OutcomeKind
from hpo_service.errors import TrialError
from hpo_service.training.data.formats import Example
from hpo_service.training.data.tokens import IGNORED, TokenRow, tokenise
from hpo_service.training.run.task_metrics import evenly_spaced
from hpo_service.training.scoring import generation
from hpo_service.training.scoring.generation import Question, end_ids, generate, question_of
from tests.training.tiny import CHAT_TEMPLATE, byte_tokenizer, pairs, write_rows
from tests.trials import stop

PROMPTS = [[0, 40, 41, 42], [0, 50], [0, 60, 61], [0, *range(70, 90)], [0, 33]]


@pytest.fixture(scope="module")
def model(llama):
    return AutoModelForCausalLM.from_pretrained(llama)


def by_hand(model, prompt, steps, ends=()):
    ids = list(prompt)
    for _ in range(steps):
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token in ends:
            break
        ids.append(token)
    return ids[len(prompt) :]


def answers(model, prompts=PROMPTS, **more):
    return generate(model, prompts, **{"padding": 2, "ends": [], "max_new_tokens": 6, **more})


def test_the_likeliest_token_follows_whatever_the_batch(model):
    expected = [by_hand(model, prompt, 6) for prompt in PROMPTS]
    assert answers(model) == expected
    assert answers(model, batch_rows=2) == expected
    assert answers(model, padding=9) == expected


def test_an_answer_ends_before_its_end(model):
    free = by_hand(model, PROMPTS[0], 6)
    end = free[3]
    assert answers(model, ends=[end]) == [by_hand(model, prompt, 6, [end]) for prompt in PROMPTS]


def test_neither_the_makers_taste_nor_missing_room_changes_what_is_greedy(model, monkeypatch):
    expected = answers(model)
    monkeypatch.setattr(model.generation_config, "do_sample", True)
    monkeypatch.setattr(model.generation_config, "repetition_penalty", 5.0)
    assert answers(model) == expected
    long = [[0, *range(10, 135)]]
    assert [len(answer) for answer in answers(model, long)] == [2]


def test_every_token_is_a_sign_of_life(model):
    touches = []
    answers(model, touch=lambda: touches.append(1))
    assert len(touches) == 6


def test_a_batch_that_does_not_fit_is_halved(model, monkeypatch):
    expected, sizes, plain = answers(model), [], generation._run

    def tight(model, prompts, *rest):
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(model, prompts, *rest)

    monkeypatch.setattr(generation, "_run", tight)
    assert answers(model) == expected
    assert sizes == [5, 2, 3, 1, 2]


def test_ends_are_the_tokenizers_and_those_the_makers_name(model, monkeypatch):
    assert end_ids(model, byte_tokenizer()) == [1]
    monkeypatch.setattr(model.generation_config, "eos_token_id", [7, 1])
    assert end_ids(model, byte_tokenizer()) == [1, 7]


def test_a_prompt_is_what_comes_before_what_is_learned():
    tokenizer = byte_tokenizer(CHAT_TEMPLATE)
    (row,) = tokenise([Example("row", "what? ", "this")], tokenizer, 64).rows
    question = question_of(row)
    assert tokenizer.decode(question.prompt) == "<s>what? "
    assert tokenizer.decode(question.reference) == "this</s>"
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    messages = tuple({"role": role, "content": content} for role, content in turns)
    (row,) = tokenise([Example("row", messages=messages)], tokenizer, 128).rows
    question = question_of(row)
    assert tokenizer.decode(question.prompt).endswith("<user>a</user>\n<assistant>")
    assert tokenizer.decode(question.reference).startswith("b</assistant>")
    assert "<user>c" not in tokenizer.decode(question.reference)


def test_a_row_may_be_learned_to_its_end():
    labels = np.array([IGNORED, 5, 6], dtype=np.int32)
    assert question_of(TokenRow(np.array([4, 5, 6], dtype=np.int32), labels)) == Question([4], [5, 6])


def test_rows_are_chosen_at_equal_distances():
    rows = list(range(10))
    assert evenly_spaced(rows, 4) == [0, 2, 5, 7]
    assert evenly_spaced(rows, 20) == rows


@pytest.fixture
def own(monkeypatch):
    module = ModuleType("metrics_of_the_test")
    module.seen = []
    module.count = lambda samples: module.seen.extend(samples) or float(len(samples))
    module.broken = lambda samples: samples[0].nothing
    monkeypatch.setitem(sys.modules, "metrics_of_the_test", module)
    return module


def examined(trainee, metrics, **more):
    evaluation = EvaluationSpec(metrics=metrics, examples=2, max_new_tokens=4)
    config = trainee.config(evaluations_per_epoch=1, **more)
    return config.model_copy(update={"evaluation": evaluation})


def test_a_finished_trial_answers_and_one_broken_metric_costs_nothing_else(trainee, own):
    own_metrics = [f"python:metrics_of_the_test:{name}" for name in ("count", "broken")]
    outcome = trainee.run(examined(trainee, ["exact_match", *own_metrics]))
    facts = outcome.facts
    assert outcome.kind is OutcomeKind.COMPLETE
    assert (facts.training.metric_rows, facts.extra["metric:metrics_of_the_test:count"]) == (2, 2.0)
    assert 0 <= facts.extra["metric:exact_match"] <= 1
    assert facts.timing.metrics > 0
    assert facts.warnings.metrics.startswith("metric python:metrics_of_the_test:broken raised AttributeError")
    kept = [json.loads(line) for line in (trainee.folder / "trial" / "answers.jsonl").read_text().splitlines()]
    assert [each["prompt"] for each in kept] == [each.prompt for each in own.seen]
    prompts = {each["prompt"].strip(): each["completion"] for each in pairs(70)}
    assert all(prompts[each["prompt"]] == each["reference"] for each in kept)


def test_a_model_that_has_learned_its_rows_by_heart_is_told_from_one_that_has_not(trainee, tmp_path):
    rows = [{"prompt": f"{'x' * (i % 7)}{i}?", "completion": "yes"} for i in range(60)]
    source = write_rows(tmp_path / "yes.jsonl", rows)
    config = examined(trainee, ["exact_match", "rouge_l"], data={"source": source}, epochs=3, learning_rate=2e-2)
    assert trainee.run(config).facts.extra["metric:exact_match"] == 1.0
    hopeless = examined(trainee, ["exact_match", "rouge_l"], data={"source": source}, learning_rate=1e-9)
    assert trainee.run(hopeless, "hopeless").facts.extra["metric:exact_match"] == 0.0


@pytest.mark.parametrize("method", ["prefix", "full"])
def test_models_of_other_methods_answer_too(trainee, tmp_path, method):
    rows = [{"prompt": f"{i}?", "completion": "y"} for i in range(60)]
    source = write_rows(tmp_path / "y.jsonl", rows)
    outcome = trainee.run(
        examined(trainee, ["exact_match"], data={"source": source}, method=method, learning_rate=2e-2)
    )
    assert "metrics_warning" not in outcome.facts.flat()
    assert outcome.facts.extra["metric:exact_match"] in (0.0, 1.0)


def test_plain_text_has_nothing_to_answer(trainee, tmp_path):
    source = write_rows(tmp_path / "text.jsonl", [{"text": f"some text, number {i}"} for i in range(60)])
    outcome = trainee.run(examined(trainee, ["rouge_l"], data={"source": source}))
    assert outcome.kind is OutcomeKind.COMPLETE
    assert (
        outcome.facts.warnings.metrics == "no answers could be generated: rows of plain text have no prompts to answer"
    )
    assert "metric:rouge_l" not in outcome.facts.flat()


def test_a_cancelled_trial_does_not_answer_on(trainee, monkeypatch):
    def ask(job, model, prompts):
        job.link.receive(stop("cancel", "a person said so"))
        return plain(job, model, prompts)

    from hpo_service.training.engines import solo

    plain = solo.write_answers
    monkeypatch.setattr(solo, "write_answers", ask)
    outcome = trainee.run(examined(trainee, ["rouge_l"]))
    assert (outcome.kind, outcome.reason) == (OutcomeKind.CANCELLED, "a person said so")


def test_trials_that_are_not_to_be_examined_are_not(trainee):
    assert not [name for name in trainee.run(trainee.config()).facts.flat() if name.startswith("metric")]


def selecting(trainee, select, **more):
    config = examined(trainee, more.pop("metrics", []), **more)
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"select": select})})


def test_a_trial_of_a_study_that_selects_on_a_metric_is_worth_what_it_answers_to_validation_rows(trainee, own):
    own.halves = lambda samples: own.seen.extend(samples) or [float(place % 2) for place, _ in enumerate(samples)]
    outcome = trainee.run(selecting(trainee, "python:metrics_of_the_test:halves"))
    assert (outcome.kind, outcome.value) == (OutcomeKind.COMPLETE, 0.5)
    assert outcome.facts.training.validation_loss == outcome.validation.mean != outcome.value
    assert (outcome.facts.training.metric_rows, outcome.test_answers) == (2, None)
    folder = trainee.folder / "trial"
    kept = [json.loads(line) for line in (folder / "answers.validation.jsonl").read_text().splitlines()]
    assert [each["prompt"] for each in kept] == [each.prompt for each in own.seen]
    assert not (folder / "answers.jsonl").exists()


def test_test_rows_are_answered_besides_where_they_are_asked_for(trainee, own):
    own.halves = lambda samples: [float(place % 2) for place, _ in enumerate(samples)]
    name = "python:metrics_of_the_test:halves"
    outcome = trainee.run(selecting(trainee, name, metrics=["exact_match", name]))
    assert outcome.test_answers.nll == [0.0, 1.0]
    assert outcome.facts.metrics["metrics_of_the_test:halves"] == 0.5
    folder = trainee.folder / "trial"
    asked = [(folder / f"answers{part}.jsonl").read_text() for part in ("", ".validation")]
    assert asked[0] != asked[1]


def test_what_is_selected_on_must_be_had(trainee, own, tmp_path):
    with pytest.raises(TrialError, match=r"metric python:metrics_of_the_test:broken raised AttributeError"):
        trainee.run(selecting(trainee, "python:metrics_of_the_test:broken"))
    source = write_rows(tmp_path / "text.jsonl", [{"text": f"some text, number {i}"} for i in range(60)])
    with pytest.raises(TrialError, match="rows of plain text have no prompts to answer"):
        trainee.run(selecting(trainee, "exact_match", data={"source": source}), "text")
