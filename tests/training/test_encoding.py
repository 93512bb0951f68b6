"""Texts and given ids as tokens: nothing is added at borders, padding is not learned, and missing ends are counted."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from hpo_service.errors import DataError
from hpo_service.training.data.formats import Example
from hpo_service.training.data.tokens import IGNORED, tokenise
from tests.training.tiny import CHAT_TEMPLATE, byte_tokenizer

BOS, EOS, PAD = 0, 1, 2
TEXTS = ["the answer is number 5: yes.", "say number 7 and no\nmore (really)", "a question: what is it? it is x"]


def spaced_tokenizer(kind=models.BPE, scheme="always"):
    """A tokenizer that puts a space before every text, as those of SentencePiece do."""
    trainer = {models.BPE: trainers.BpeTrainer, models.Unigram: trainers.UnigramTrainer}[kind]
    unknown = {"unk_token": "<unk>"} if kind is models.Unigram else {}
    tokenizer = Tokenizer(kind(unk_token="<unk>") if kind is models.BPE else kind())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    special = ["<s>", "</s>", "<pad>", "<unk>"]
    tokenizer.train_from_iterator(
        TEXTS, trainer(vocab_size=120, special_tokens=special, show_progress=False, **unknown)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def ids_of(example, tokenizer):
    (row,) = tokenise([example], tokenizer, 256).rows
    return row.ids.tolist()


@pytest.mark.parametrize("kind", [models.BPE, models.Unigram])
@pytest.mark.parametrize(
    "prompt, completion", [("say ", "number 5"), ("is it:", " yes"), ("is it:", "yes"), ("a", "t")]
)
def test_a_completion_gains_no_space_where_it_joins_its_prompt(kind, prompt, completion):
    tokenizer = spaced_tokenizer(kind)
    ids = ids_of(Example("", prompt, completion), tokenizer)
    assert tokenizer.decode(ids[:-1]) == prompt + completion
    assert ids[: len(tokenizer(prompt).input_ids)] == tokenizer(prompt).input_ids


def test_the_first_word_of_a_turn_is_learned_with_the_space_that_its_token_holds():
    tokenizer = spaced_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ 'question: ' if m.role == 'user' else 'answer: ' }}{{ m.content }} "
        "{{ eos_token if m.role == 'assistant' }}{% endfor %}{% if add_generation_prompt %}answer: {% endif %}"
    )
    chat = Example("", messages=({"role": "user", "content": "it is"}, {"role": "assistant", "content": "what number"}))
    (row,) = tokenise([chat], tokenizer, 99).rows
    assert tokenizer.decode(row.labels[row.labels != IGNORED]).split() == ["what", "number", "</s>"]


def test_a_text_that_stands_alone_is_tokenised_as_ever():
    tokenizer = spaced_tokenizer()
    assert ids_of(Example("", completion="number 5"), tokenizer) == [*tokenizer("number 5").input_ids, EOS]


def test_completions_of_tokenizers_that_add_nothing_are_tokenised_as_ever():
    tokenizer = byte_tokenizer()
    alone = tokenizer("answer", add_special_tokens=False).input_ids
    assert ids_of(Example("", "ask ", "answer"), tokenizer)[-1 - len(alone) : -1] == alone


def given(ids, **fields):
    (row,) = tokenise([Example("", ids=ids, **fields)], byte_tokenizer(), 64).rows
    return row


def test_padding_at_the_ends_of_given_ids_is_taken_off_and_counted():
    row = given([PAD, PAD, BOS, 40, 41, EOS, PAD, PAD, PAD])
    assert row.ids.tolist() == [BOS, 40, 41, EOS]
    assert row.labels.tolist() == [IGNORED, 40, 41, EOS]
    example = Example("", ids=[BOS, 40, PAD], labels=[IGNORED, 40, PAD], padding=4)
    assert tokenise([example], byte_tokenizer(), 64).padding == 5
    assert given([BOS, 40, PAD, 41]).ids.tolist() == [BOS, 40, PAD, 41]


def test_one_end_is_left_where_padding_is_the_end():
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    (row,) = tokenise([Example("", ids=[BOS, 40, EOS, EOS, EOS])], tokenizer, 64).rows
    assert row.labels.tolist() == [IGNORED, 40, EOS]
    assert tokenise([Example("", ids=[BOS, 40, EOS])], tokenizer, 64).padding == 0


def test_ids_of_padding_alone_teach_nothing():
    assert tokenise([Example("", ids=[PAD, PAD])], byte_tokenizer(), 64).unsupervised == 1


def test_rows_that_teach_no_end_are_counted():
    without_end = byte_tokenizer()
    without_end.eos_token = None
    assert tokenise([Example("", "a", "b")], without_end, 64).unended == 1
    assert tokenise([Example("", "a", "b")], byte_tokenizer(), 64).unended == 0
    # what the cut takes away is another matter
    assert tokenise([Example("", "a", "b" * 99)], byte_tokenizer(), 64).unended == 0
    assert tokenise([Example("", ids=[BOS, 40])], byte_tokenizer(), 64).unended == 1
    chat = Example("", messages=({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}))
    assert tokenise([chat], byte_tokenizer(CHAT_TEMPLATE), 64).unended == 1
    ended = CHAT_TEMPLATE.replace("</{{ message.role }}>", "{{ eos_token }}")
    assert tokenise([chat], byte_tokenizer(ended), 64).unended == 0


def test_a_tokenizer_that_cannot_tell_places_learns_turns_all_the_same(monkeypatch):
    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    chat = Example("row 7", messages=({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}))
    (row,) = tokenise([chat], tokenizer, 99).rows
    assert tokenizer.decode(row.labels[row.labels != IGNORED]) == "b</assistant>\n"

    class Spaced(ByT5Tokenizer):
        def _tokenize(self, text):
            return super()._tokenize(" " + text)

    other = Spaced()
    other.chat_template = CHAT_TEMPLATE
    with pytest.raises(DataError, match="row 7: the model's tokenizer cannot tell where the assistant's turns begin"):
        tokenise([chat], other, 99)
