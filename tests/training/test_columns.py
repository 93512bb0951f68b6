"""Rows as people have them: own columns, prompts made of several, system texts, turns in pairs, own held-out rows."""

import pytest

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.errors import DataError
from hpo_service.training.data.first_look import first_look
from hpo_service.training.data.formats import examples_of, format_of
from hpo_service.training.data.reading.columns import named
from hpo_service.training.data.reading.source import RawRow
from hpo_service.training.data.rows import prepare_rows
from tests.training.tiny import CHAT_TEMPLATE, byte_tokenizer, pairs, write_rows


def example(fields, **data):
    spec = DataSpec(source="rows.jsonl", **data)
    found = RawRow("rows.jsonl, line 1", fields)
    row = named(found, spec)
    (example,) = examples_of([row], format_of(row, found, spec), spec)
    return example


def said(fields, **data):
    return [(turn["role"], turn["content"]) for turn in example(fields, **data).messages]


QUESTION = {"question": "2 + 2?", "answer": "4"}
QUESTIONS = {"prompt": "question", "completion": "answer"}
TURNS = {"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "hello"}]}


def test_columns_are_read_under_the_names_that_the_study_gives_them():
    found = example(QUESTION, columns=QUESTIONS)
    assert (found.prompt, found.completion) == ("2 + 2?", "4")


def test_columns_may_change_their_names_with_each_other():
    found = example({"prompt": "4", "completion": "2 + 2?"}, columns={"prompt": "completion", "completion": "prompt"})
    assert (found.prompt, found.completion) == ("2 + 2?", "4")


def test_a_turn_may_call_role_and_content_otherwise():
    row = {"talk": [{"who": "user", "words": "hi"}, {"who": "assistant", "words": "hello"}]}
    names = {"messages": "talk", "role": "who", "content": "words"}
    assert said(row, columns=names) == [("user", "hi"), ("assistant", "hello")]


def test_a_column_that_gives_a_name_keeps_its_own_where_it_names_groups():
    assert example(QUESTION, columns=QUESTIONS, group="question").group == "2 + 2?"


@pytest.mark.parametrize(
    "fields, data, message",
    [
        (
            {"q": "a", "answer": "b"},
            {"columns": QUESTIONS},
            "there is no column 'question', which data.columns",
        ),
        ({"question": 1, "answer": "b"}, {"columns": QUESTIONS}, "column 'question' must be text, not a int"),
        ({"question": "a", "answer": " "}, {"columns": QUESTIONS}, "column 'answer' is empty"),
        (
            QUESTION,
            {"prompt_template": "{questoin}"},
            "column 'questoin', which data.prompt_template names, is",
        ),
        ({"a": None, "completion": "b"}, {"prompt_template": "{a}"}, "names, must be text, not nothing"),
        ({"text": "a"}, {"system": "be kind"}, "data.system has no place in a row without a prompt"),
        ({"text": "a"}, {"as_chat": True}, "data.as_chat is for rows of prompt-completion, alpaca, and these are text"),
        ({**TURNS, "completion": TURNS["prompt"]}, {}, "column 'completion' has no turn of the assistant"),
        ({**TURNS, "prompt": []}, {}, "column 'prompt' must be a list of turns"),
        (
            {"prompt": [{"role": "system", "content": "a"}], "completion": "b", "system": "c"},
            {},
            "column 'system' and the first turn name different system texts",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_own_column(fields, data, message):
    with pytest.raises(DataError) as caught:
        example(fields, **data)
    assert str(caught.value).startswith("rows.jsonl, line 1: ")
    assert message in str(caught.value)


def test_a_template_makes_the_prompt_of_columns():
    row = {"article": "It rains.", "words": 3, "summary": "rain"}
    found = example(row, prompt_template="{{In {words} words}} {article} {{", columns={"completion": "summary"})
    assert (found.prompt, found.completion) == ("{In 3 words} It rains. {", "rain")


def test_a_template_goes_before_other_formats():
    row = {"instruction": "add", "input": "1, 2", "output": "3", "text": "whole"}
    found = example(row, prompt_template="{instruction}: {input}=", columns={"completion": "output"})
    assert (found.prompt, found.completion) == ("add: 1, 2=", "3")


def test_a_system_text_stands_before_a_prompt():
    assert example({"prompt": "hi", "completion": "a"}, system="Be kind.").prompt == "Be kind.\n\nhi"


def test_a_system_text_opens_conversations_that_have_none():
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "no", "weight": 0}]
    turns.append({"role": "assistant", "content": "yes"})
    found = example({"messages": turns}, system="Be kind.")
    assert found.messages[0] == {"role": "system", "content": "Be kind."}
    assert [found.messages[place]["content"] for place in found.unlearned] == ["no"]
    own = [{"role": "system", "content": "Be brief."}, *turns]
    assert said({"messages": own}, system="Be kind.")[0] == ("system", "Be brief.")


def test_a_system_text_takes_the_place_of_alpacas_opening_and_a_rows_own_wins():
    row = {"instruction": "add", "output": "3"}
    assert example(row, system="Be kind.").prompt.startswith("Be kind.\n\n### Instruction")
    assert example({**row, "system": "Be brief."}, system="Be kind.").prompt.startswith("Be brief.\n\n###")


def test_a_pairs_system_column_is_read_where_the_study_names_it():
    row = {"prompt": "hi", "completion": "a", "rules": "Be brief."}
    assert example(row, columns={"system": "rules"}, system="Be kind.").prompt == "Be brief.\n\nhi"
    assert example({**row, "system": "unread"}).prompt == "hi"


def test_a_pair_becomes_a_chat_where_the_study_says_so():
    row = {"prompt": "hi", "completion": "hello"}
    assert said(row, as_chat=True) == [("user", "hi"), ("assistant", "hello")]
    assert said({**row, "system": "Be brief."}, as_chat=True, system="Be kind.")[0] == ("system", "Be brief.")
    assert said(row, as_chat=True, system="Be kind.")[0] == ("system", "Be kind.")


def test_alpaca_rows_become_a_chat_without_stanfords_words_and_earlier_rounds_are_not_learned():
    row = {"instruction": "add", "input": "1, 2", "output": "3", "history": [["hi", "hello"]]}
    found = example(row, as_chat=True)
    assert [turn["content"] for turn in found.messages] == ["hi", "hello", "add\n\n1, 2", "3"]
    assert found.unlearned == {1}


def test_of_turns_in_a_prompt_and_a_completion_the_completions_are_learned():
    asked = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}, *TURNS["prompt"]]
    found = example({"prompt": asked, "completion": TURNS["completion"]})
    assert [turn["content"] for turn in found.messages] == ["hi", "yes?", "hi", "hello"]
    assert found.unlearned == {1}
    assert said({"prompt": "hi", "completion": TURNS["completion"]}) == [("user", "hi"), ("assistant", "hello")]


def learned(rows, tokenizer):
    (row, *_) = rows.train
    return tokenizer.decode(row.ids), tokenizer.decode(row.ids[row.labels != -100])


def test_a_studys_chat_template_is_used_in_place_of_the_models(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", pairs(60))
    tokenizer = byte_tokenizer(CHAT_TEMPLATE)
    own = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    spec = DataSpec(source=source, as_chat=True, chat_template=own, system="be kind")
    whole, answer = learned(prepare_rows(spec, tokenizer), tokenizer)
    assert whole.startswith("[system]be kind[user]")
    assert "[assistant]" in whole
    assert "[user]" not in answer
    assert tokenizer.chat_template == CHAT_TEMPLATE


def test_pairs_without_the_models_chat_template_are_warned_of(tmp_path):
    spec = DataSpec(source=write_rows(tmp_path / "rows.jsonl", pairs(60)))
    warnings = prepare_rows(spec, byte_tokenizer(CHAT_TEMPLATE)).report.warnings()
    assert any("learned without it: where it shall answer in a chat, say data.as_chat: true" in w for w in warnings)
    plain = prepare_rows(spec.model_copy(update={"as_chat": True}), byte_tokenizer(CHAT_TEMPLATE)).report.warnings()
    assert not any("as_chat" in warning for warning in plain)


def test_own_held_out_rows_are_those_parts_and_nothing_is_cut_off_for_them(tmp_path):
    every = pairs(90)
    sources = {
        name: write_rows(tmp_path / f"{name}.jsonl", rows)
        for name, rows in (("source", every[:60]), ("validation", every[60:75]), ("test", every[70:90]))
    }
    rows = prepare_rows(DataSpec(**sources), byte_tokenizer())
    assert (len(rows.train), len(rows.validation)) == (60, 15)
    # the five that validation holds too are a leak
    assert (len(rows.test), rows.report.leaked) == (15, 5)
    only = prepare_rows(DataSpec(source=sources["source"], validation=sources["validation"]), byte_tokenizer())
    shares = prepare_rows(DataSpec(source=sources["source"]), byte_tokenizer())
    assert len(only.validation) == 15
    assert only.test.ids.tolist() == shares.test.ids.tolist()
    assert len(only.train) == 60 - len(only.test)


def test_own_held_out_rows_that_are_all_trained_on_are_refused(tmp_path):
    source, copy = (write_rows(tmp_path / f"{name}.jsonl", pairs(60)) for name in "ab")
    other = write_rows(tmp_path / "c.jsonl", pairs(70)[60:])
    with pytest.raises(DataError, match=r"every row that data\.validation names stands in an earlier part too"):
        prepare_rows(DataSpec(source=source, validation=copy, test=other), byte_tokenizer())


def test_rows_of_several_sources_are_taken_together(tmp_path):
    halves = {"a": pairs(60)[:40], "b": pairs(60)[40:]}
    both = [write_rows(tmp_path / f"{name}.jsonl", rows) for name, rows in halves.items()]
    one = write_rows(tmp_path / "c.jsonl", pairs(60))
    found = prepare_rows(DataSpec(source=both), byte_tokenizer())
    assert found.report.rows_read == 60
    assert found.fingerprint == prepare_rows(DataSpec(source=one), byte_tokenizer()).fingerprint


def test_a_first_look_tells_what_is_wrong_in_every_source(tmp_path, llama):
    good = write_rows(tmp_path / "good.jsonl", [QUESTION] * 3)
    bad = write_rows(tmp_path / "bad.jsonl", [{"question": 1, "answer": "b"}])
    spec = DataSpec(source=[good, str(tmp_path / "none-*.jsonl")], validation=bad, columns=QUESTIONS)
    told = [str(each) for each in first_look(spec, ModelSpec(base=llama))]
    assert any("no data file fits" in each for each in told)
    assert any("bad.jsonl, line 1: column 'question' must be text" in each for each in told)


def test_a_chat_template_that_is_no_jinja_is_found_before_a_trial(tmp_path, llama):
    spec = DataSpec(source=write_rows(tmp_path / "rows.jsonl", pairs(3)), as_chat=True, chat_template="{% for %}")
    told = [str(each) for each in first_look(spec, ModelSpec(base=llama))]
    assert any("data.chat_template refuses the conversation" in each for each in told)
