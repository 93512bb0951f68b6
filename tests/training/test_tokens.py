"""Token rows: what is learned, what is cut, and how conversations are rendered."""

import pytest
import torch
from tokenizers import processors

from hpo_service.domain.study.sections.data import DataSpec, SplitSpec
from hpo_service.errors import DataError
from hpo_service.training.data.formats import Example
from hpo_service.training.data.rows import prepare_rows
from hpo_service.training.data.tokens import IGNORED, Tokenised, TokenRows, collate, tokenise
from tests.training.tiny import CHAT_TEMPLATE, byte_tokenizer, pairs, write_rows

BOS, EOS, PAD = 0, 1, 2


def learned(row, tokenizer):
    return tokenizer.decode(row.labels[row.labels != IGNORED])


def one(example, tokenizer=None, max_length=128):
    tokenizer = tokenizer or byte_tokenizer()
    (row,) = tokenise([example], tokenizer, max_length).rows
    return row, tokenizer


def test_only_the_completion_and_its_end_are_learned():
    row, tokenizer = one(Example("", "ask ", "answer"))
    assert tokenizer.decode(row.ids) == "<s>ask answer</s>"
    assert learned(row, tokenizer) == "answer</s>"
    assert row.supervised == 7


def test_all_of_a_plain_text_is_learned_but_its_first_token():
    row, tokenizer = one(Example("", completion="some text"))
    assert tokenizer.decode(row.ids) == "<s>some text</s>"
    assert learned(row, tokenizer) == "some text</s>"


def test_without_a_first_token_the_first_character_is_not_learned():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    row, _ = one(Example("", completion="text"), tokenizer)
    assert row.ids[0] != BOS
    assert learned(row, tokenizer) == "ext</s>"


def test_an_end_mark_that_the_tokenizer_puts_behind_the_prompt_is_taken_off():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    row, _ = one(Example("", "ask ", "answer"), tokenizer)
    assert tokenizer.decode(row.ids) == "<s>ask answer</s>"


def test_the_end_is_learned_even_where_padding_is_the_same_token():
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    row, _ = one(Example("", "a", "b"), tokenizer)
    batch = collate([row, one(Example("", "long ask", "long"), tokenizer)[0]], tokenizer.pad_token_id)
    assert row.labels[-1] == EOS
    assert batch["labels"][0].tolist() == [*row.labels.tolist(), *[IGNORED] * (batch["labels"].shape[1] - len(row.ids))]


def test_long_rows_are_cut_and_counted_and_rows_with_nothing_to_learn_dropped():
    examples = [Example("", "p" * 4, "c" * 50), Example("", "p" * 50, "c"), Example("", "p", "c")]
    result = tokenise(examples, byte_tokenizer(), 16)
    assert [len(row.ids) for row in result.rows] == [16, 4]
    assert (result.truncated, result.unsupervised) == (2, 1)


def test_rows_are_stacked_with_padding_hidden_by_the_mask():
    rows = [one(Example("", "a", "b"))[0], one(Example("", "a", "bcd"))[0]]
    batch = collate(rows, PAD)
    assert batch["input_ids"].shape == (2, 6)
    assert batch["input_ids"][0, 4:].tolist() == [PAD, PAD]
    assert batch["attention_mask"].sum(dim=1).tolist() == [4, 6]
    assert batch["labels"][0, 4:].tolist() == [IGNORED, IGNORED]
    assert all(tensor.dtype == torch.long for tensor in batch.values())


def test_all_of_a_row_is_learned_where_that_is_asked_for():
    (row,) = tokenise([Example("", "ask ", "answer")], byte_tokenizer(), 128, "all").rows
    assert learned(row, byte_tokenizer()) == "ask answer</s>"
    (chat,) = tokenise([Example("", messages=CONVERSATION)], byte_tokenizer(CHAT_TEMPLATE), 256, "all").rows
    assert learned(chat, byte_tokenizer()).startswith("user>one</user>")


def test_rows_of_ids_are_taken_as_they_are():
    examples = [Example("", ids=[5, 6, 7, 8], labels=[-100, -100, 7, 8]), Example("", ids=[9, 10, 11])]
    rows = tokenise(examples, byte_tokenizer(), 3).rows
    assert [row.ids.tolist() for row in rows] == [[5, 6, 7], [9, 10, 11]]
    assert [row.labels.tolist() for row in rows] == [[IGNORED, IGNORED, 7], [IGNORED, 10, 11]]
    (every,) = tokenise(examples[:1], byte_tokenizer(), 9, "all").rows
    assert every.labels.tolist() == [IGNORED, 6, 7, 8]


def test_an_id_that_the_tokenizer_does_not_know_is_named():
    with pytest.raises(DataError, match="row 7: the token 259 is not in the vocabulary of 259"):
        tokenise([Example("row 7", ids=[1, 259])], byte_tokenizer(), 8)


def test_rows_in_flat_arrays_are_read_like_a_list():
    rows = tokenise([Example("", "a" * i, "b") for i in range(5)], byte_tokenizer(), 16).rows
    as_list = list(rows)
    assert len(rows) == len(as_list) == 5
    assert rows.lengths.tolist() == [len(row.ids) for row in as_list] == [3, 4, 5, 6, 7]
    assert rows[-1].ids.tolist() == as_list[4].ids.tolist()
    assert [row.ids.tolist() for row in rows[1:3]] == [row.ids.tolist() for row in as_list[1:3]]
    with pytest.raises(IndexError):
        rows[5]


CONVERSATION = (
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "four"},
)


def test_only_what_the_assistant_says_is_learned():
    row, tokenizer = one(Example("", messages=CONVERSATION), byte_tokenizer(CHAT_TEMPLATE), 256)
    assert tokenizer.decode(row.ids).startswith("<user>one</user>\n<assistant>two</assistant>")
    assert learned(row, tokenizer) == "two</assistant>\nfour</assistant>\n"


REWRITING = (
    "{% for m in messages %}<{{ m.role }}>"
    "{{ m.content | upper if m.role == 'assistant' and not loop.last else m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_an_earlier_turn_that_the_template_rewrites_is_context_only():
    row, tokenizer = one(Example("", messages=CONVERSATION), byte_tokenizer(REWRITING), 256)
    assert "TWO" in tokenizer.decode(row.ids)
    assert learned(row, tokenizer) == "four\n"


def test_a_turn_asked_for_with_other_words_than_it_is_written_with_is_learned_with_its_header():
    template = CHAT_TEMPLATE.replace("%}<assistant>{%", "%}<assistant><think>{%")
    row, tokenizer = one(Example("", messages=CONVERSATION[:2]), byte_tokenizer(template), 256)
    assert learned(row, tokenizer) == "<assistant>two</assistant>\n"


def test_a_conversation_may_open_with_the_assistant():
    row, tokenizer = one(Example("", messages=CONVERSATION[1:2]), byte_tokenizer(CHAT_TEMPLATE), 256)
    assert learned(row, tokenizer) == "assistant>two</assistant>\n"


@pytest.mark.parametrize(
    "template, message",
    [
        (None, "row 7: the model's tokenizer has no chat template, so conversations cannot be rendered"),
        ("{{ raise_exception('roles must alternate') }}", "row 7: the model's chat template refuses the conversation"),
        (
            "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
            "row 7: the model's chat template rewrites what came before a turn of the assistant",
        ),
        (
            "{% for m in messages %}{{ m.content | upper if m.role == 'assistant' and not loop.last else m.content }}"
            "{% endfor %}",
            "row 7: the model's chat template shows no turn of the assistant as it was written",
        ),
    ],
    ids=["none", "refuses", "rewrites", "hides"],
)
def test_a_template_that_does_not_fit_is_one_clear_line(template, message):
    count = 3 if "upper" in (template or "") else 2
    with pytest.raises(DataError) as caught:
        tokenise([Example("row 7", messages=CONVERSATION[:count])], byte_tokenizer(template), 256)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def spec(tmp_path, rows, **fields):
    return DataSpec(source=write_rows(tmp_path / "rows.jsonl", rows), **fields)


def test_the_rows_of_a_study_come_with_their_counts(tmp_path):
    shouted = [{**row, "prompt": row["prompt"].upper()} for row in pairs(200)]
    rows = prepare_rows(spec(tmp_path, [*pairs(200), *shouted], max_length=24), byte_tokenizer())
    assert rows.facts.format == "prompt-completion"
    assert rows.facts.train == len(rows.train) > 250
    assert rows.facts.leaked > 20
    assert rows.facts.truncated > 50
    assert rows.facts.unsupervised == 0


def test_the_fingerprint_of_rows_follows_from_what_the_model_sees(tmp_path):
    one = prepare_rows(spec(tmp_path, pairs(100)), byte_tokenizer())
    same = prepare_rows(spec(tmp_path, pairs(100)[::-1]), byte_tokenizer())
    shorter = prepare_rows(spec(tmp_path, pairs(100), max_length=16), byte_tokenizer())
    assert one.fingerprint == same.fingerprint != shorter.fingerprint


def test_data_that_is_mostly_cut_away_is_refused(tmp_path):
    rows = [{"prompt": f"a prompt that is much too long {i}", "completion": "yes"} for i in range(100)]
    with pytest.raises(DataError, match=r"100 of 100 rows have nothing to learn within data\.max_length = 16 tokens"):
        prepare_rows(spec(tmp_path, rows, max_length=16), byte_tokenizer())


def test_a_held_out_part_that_is_cut_away_is_refused(tmp_path, monkeypatch):
    def none_for_the_test_part(examples, *args, **named):
        whole = tokenise(examples, *args, **named)
        return Tokenised(TokenRows.of([]), whole.lengths, 0, len(examples)) if len(examples) < 20 else whole

    monkeypatch.setattr("hpo_service.training.data.tokenising.work.tokenise", none_for_the_test_part)
    split = SplitSpec(validation=0.3, test=0.05)
    with pytest.raises(DataError, match=r"no row of the test part has anything to learn within data\.max_length = 512"):
        prepare_rows(spec(tmp_path, pairs(200), split=split), byte_tokenizer())
