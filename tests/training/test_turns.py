"""The assistant's turns are found in what a chat template makes of them, and what it leaves out is counted."""

import pytest

from hpo_service.errors import DataError
from hpo_service.training.data.formats import Example
from hpo_service.training.data.tokens import IGNORED, tokenise
from tests.training.tiny import CHAT_TEMPLATE, byte_tokenizer

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|start|>", "<|message|>", "<|end|>", "<|return|>"]


def tokenizer_of(template):
    tokenizer = byte_tokenizer(template)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    return tokenizer


def user(text):
    return {"role": "user", "content": text}


def said(text, **fields):
    return {"role": "assistant", "content": text, **fields}


def called(name, **fields):
    call = {"type": "function", "function": {"name": name, "arguments": {"x": 1}}}
    return said("", tool_calls=[call], **fields)


def learned(example, template):
    """The stretches of text that are learned of an example, and the counts."""
    tokenizer = tokenizer_of(template)
    found = tokenise([example], tokenizer, 4096)
    (row,) = found.rows
    stretches, now = [], []
    for token, label in zip([*row.ids, -1], [*row.labels, IGNORED], strict=True):
        if label != IGNORED:
            now.append(int(token))
        elif now:
            stretches.append(tokenizer.decode(now))
            now = []
    return stretches, found.turns


HEAD = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
TAIL = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
# Reasoning is shown in the last turn only, where it is at least empty.
THINKS_LAST = (
    HEAD
    + "{% if m.role == 'assistant' and loop.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}"
    "{{ m.content.split('</think>')[-1] }}" + TAIL
)
# The end of the whole text is not the end of a turn.
CLOSES_ALL = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</t>\n{% endfor %}" + (
    "{% if add_generation_prompt %}<assistant>{% else %}{{ eos_token }}{% endif %}"
)
# A turn ends otherwise when it is the last.
RETURNS_LAST = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
    "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
# The system text stands before the last question, wherever that is.
SYSTEM_LAST = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if loop.index0 == ns.last and messages[0].role == 'system' %}{{ messages[0].content }}\n{% endif %}"
    "{{ m.content }}[/INST]{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
CONVERSATION = (user("q1"), said("first"), user("q2"), said("second"))


@pytest.mark.parametrize(
    "template, expected",
    [
        (CHAT_TEMPLATE, ["first</assistant>\n", "second</assistant>\n"]),
        (THINKS_LAST, ["first<|im_end|>\n", "<think>\n\n</think>\n\nsecond<|im_end|>\n"]),
        (CLOSES_ALL, ["first</t>\n", "second</t>\n</s>"]),
        (RETURNS_LAST, ["<|message|>first", "<|message|>second<|return|>"]),
        (SYSTEM_LAST, [" first</s>", " second</s>"]),
    ],
    ids=["alike", "thinks", "closes", "returns", "system"],
)
def test_every_turn_is_learned_however_the_last_one_is_written(template, expected):
    system = {"role": "system", "content": "be kind"}
    messages = (system, *CONVERSATION) if template == SYSTEM_LAST else CONVERSATION
    stretches, turns = learned(Example("", messages=messages), template)
    assert stretches == expected
    assert (turns.turns, turns.hidden, turns.altered, turns.left_out) == (2, 0, 0, {})


def test_the_same_words_in_two_turns_are_both_found():
    messages = (user("same"), said("same"), user("same"), said("same"))
    assert learned(Example("", messages=messages), THINKS_LAST)[0] == [
        "same<|im_end|>\n",
        "<think>\n\n</think>\n\nsame<|im_end|>\n",
    ]


def test_a_turn_that_is_not_to_be_learned_is_not():
    example = Example("", messages=CONVERSATION, unlearned=frozenset({1}))
    stretches, turns = learned(example, THINKS_LAST)
    assert stretches == ["<think>\n\n</think>\n\nsecond<|im_end|>\n"]
    assert (turns.turns, turns.marked, turns.hidden) == (2, 1, 0)


def test_reasoning_that_earlier_turns_lose_is_counted_in_a_field_and_in_the_text():
    thoughts = (user("q1"), said("first", reasoning_content="one"), user("q2"), said("second", reasoning_content="two"))
    stretches, turns = learned(Example("", messages=thoughts), THINKS_LAST)
    assert stretches == ["first<|im_end|>\n", "<think>\ntwo\n</think>\n\nsecond<|im_end|>\n"]
    assert turns.left_out == {"reasoning_content": 1}
    written = (user("q1"), said("<think>one</think>first"), user("q2"), said("second"))
    stretches, turns = learned(Example("", messages=written), THINKS_LAST)
    assert stretches[0] == "first<|im_end|>\n"
    assert (turns.altered, turns.hidden) == (1, 0)


CALLS = (
    HEAD + "{{ m.content }}{% for c in m.tool_calls or [] %}<call>{{ c.function.name }} "
    "{{ c.function.arguments.x }}</call>{% endfor %}" + TAIL
)


def test_a_call_is_learned_like_words():
    messages = (user("q"), called("look"), {"role": "tool", "content": "42"}, said("it is 42"))
    stretches, turns = learned(Example("", messages=messages), CALLS)
    assert stretches == ["<call>look 1</call><|im_end|>\n", "it is 42<|im_end|>\n"]
    assert turns.left_out == {}


def test_a_call_in_an_earlier_turn_that_is_written_otherwise_is_found_too():
    template = CALLS.replace(
        "{{ m.content }}", "{% if loop.last and m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}"
    )
    messages = (user("q"), called("look"), {"role": "tool", "content": "42"}, said("it is 42"))
    assert learned(Example("", messages=messages), template)[0] == [
        "<call>look 1</call><|im_end|>\n",
        "<think></think>it is 42<|im_end|>\n",
    ]


def test_a_call_that_the_template_leaves_out_teaches_no_silence_and_is_counted():
    messages = (user("q"), called("look"), {"role": "tool", "content": "42"}, said("it is 42"))
    example = Example("", messages=messages, tools=({"type": "function", "function": {"name": "look"}},))
    stretches, turns = learned(example, HEAD + "{{ m.content }}" + TAIL)
    assert stretches == ["it is 42<|im_end|>\n"]
    assert turns.hidden == 1
    assert turns.left_out == {"tool_calls": 1, "tools": 1}


def test_arguments_are_written_as_text_for_a_template_that_wants_them_so():
    template = CALLS.replace("{{ c.function.arguments.x }}", "{{ 'with ' + c.function.arguments }}")
    stretches, _ = learned(Example("", messages=(user("q"), called("look"))), template)
    assert stretches == ['<call>look with {"x": 1}</call><|im_end|>\n']


def test_a_template_that_needs_calls_is_not_asked_without_them():
    template = CALLS.replace(
        "{{ m.content }}",
        "{% if m.role == 'tool' and not messages[loop.index0 - 1].tool_calls %}{{ raise_exception('no call') }}"
        "{% endif %}{% if m.content and m.tool_calls %}{{ raise_exception('both') }}{% endif %}"
        "{% if loop.last and m.role == 'assistant' %}!{% endif %}{{ m.content }}",
    )
    messages = (user("q"), called("look"), {"role": "tool", "content": "42"}, said("it is 42"))
    stretches, turns = learned(Example("", messages=messages), template)
    assert stretches == ["<call>look 1</call><|im_end|>\n", "!it is 42<|im_end|>\n"]
    assert turns.left_out == {}


def test_turns_of_others_that_a_template_leaves_out_are_counted():
    template = HEAD + "{% if m.role != 'system' %}{{ m.content }}{% endif %}" + TAIL
    messages = ({"role": "system", "content": "be kind"}, user("q"), said("a"))
    assert learned(Example("", messages=messages), template)[1].left_out == {"turns of system": 1}


def test_words_that_a_template_escapes_are_not_left_out():
    template = CHAT_TEMPLATE.replace("{{ message.content }}", "{{ message.content | tojson }}")
    messages = (user('say "yes"'), said("yes"))
    assert learned(Example("", messages=messages), template)[1].left_out == {}


MARKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{%- generation %}{{ m.content }}<|im_end|>{%- endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}"
    "{% endfor %}"
)


def test_a_template_that_marks_what_is_generated_is_believed():
    assert learned(Example("", messages=CONVERSATION), MARKS)[0] == ["first<|im_end|>", "second<|im_end|>"]
    stretches, turns = learned(Example("", messages=CONVERSATION, unlearned=frozenset({3})), MARKS)
    assert stretches == ["first<|im_end|>"]
    assert (turns.turns, turns.marked) == (2, 1)


def test_turns_that_a_template_does_not_mark_are_counted_and_cannot_be_chosen_from():
    only_last = MARKS.replace("m.role == 'assistant' %}", "m.role == 'assistant' and loop.last %}", 1)
    stretches, turns = learned(Example("", messages=CONVERSATION), only_last)
    assert stretches == ["second<|im_end|>"]
    assert turns.hidden == 1
    with pytest.raises(DataError, match="row 7: the model's chat template marks 1 stretches as generated for 2 turns"):
        learned(Example("row 7", messages=CONVERSATION, unlearned=frozenset({1})), only_last)


def test_of_several_templates_the_one_for_tools_is_looked_at():
    tokenizer = tokenizer_of({"default": CHAT_TEMPLATE, "tool_use": MARKS})
    example = Example("", messages=CONVERSATION, tools=({"type": "function", "function": {"name": "look"}},))
    (row,) = tokenise([example], tokenizer, 4096).rows
    assert tokenizer.decode(row.labels[row.labels != IGNORED]) == "first<|im_end|>second<|im_end|>"
    with pytest.raises(DataError, match="refuses the conversation: This model has multiple chat templates"):
        tokenise([Example("", messages=CONVERSATION)], tokenizer_of({"one": MARKS}), 4096)
