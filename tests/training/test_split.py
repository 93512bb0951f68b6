"""The split follows from content and seed alone, and nothing held out was trained on."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_service.domain.study.sections.data import SplitSpec
from hpo_service.errors import DataError
from hpo_service.training.data.formats import Example
from hpo_service.training.data.split import loose_key, normalised, split_examples


def examples(count):
    return [Example(f"row {i}", f"question {i}", f"answer {i}") for i in range(count)]


def contents(split):
    return [[example.content for example in part] for part in (split.train, split.validation, split.test)]


def test_the_shares_are_about_those_asked_for():
    split = split_examples(examples(5000), SplitSpec(validation=0.2, test=0.1))
    assert len(split.validation) == pytest.approx(1000, rel=0.1)
    assert len(split.test) == pytest.approx(500, rel=0.15)
    assert len(split.train) + len(split.validation) + len(split.test) == 5000


def test_neither_order_nor_origin_changes_the_parts_or_their_order():
    rows = examples(300)
    shuffled = [Example("elsewhere", e.prompt, e.completion) for e in rows]
    random.Random(1).shuffle(shuffled)
    assert contents(split_examples(rows, SplitSpec())) == contents(split_examples(shuffled, SplitSpec()))


def test_rows_stay_in_their_part_when_others_are_added():
    few, many = split_examples(examples(200), SplitSpec()), split_examples(examples(400), SplitSpec())
    for small, large in zip(contents(few), contents(many), strict=True):
        assert set(small) <= set(large)


def test_another_seed_cuts_otherwise():
    one, two = (split_examples(examples(200), SplitSpec(seed=seed)) for seed in (1, 2))
    assert contents(one)[2] != contents(two)[2]


def test_the_most_rows_are_chosen_by_hash_and_cut_in_fair_shares():
    split = split_examples(examples(5000), SplitSpec(validation=0.2, test=0.2), max_rows=1000)
    assert len(split.train) + len(split.validation) + len(split.test) == 1000
    assert len(split.validation) == pytest.approx(200, rel=0.25)
    whole = split_examples(examples(5000), SplitSpec(validation=0.2, test=0.2))
    assert set(contents(split)[1]) <= set(contents(whole)[1])


def test_held_out_rows_that_are_repeats_are_dropped():
    rows = examples(400)
    shouted = [Example("copy", e.prompt.upper() + "!", e.completion) for e in rows]
    split = split_examples(rows + shouted, SplitSpec(validation=0.2, test=0.2))
    keys = [[loose_key(content) for content in part] for part in contents(split)]
    dropped = split.leaked + split.repeated
    assert split.leaked > 50
    assert not set(keys[0]) & set(keys[1] + keys[2])
    assert len(set(keys[1] + keys[2])) == len(keys[1] + keys[2])
    assert sum(map(len, keys)) + dropped == 800


def test_differences_that_nobody_sees_do_not_separate_rows():
    assert normalised("  Café\n au\tlait ") == normalised("Café au lait")
    split = split_examples([*examples(200), Example("x", "question 1 ", " answer  1")], SplitSpec())
    parts = [[loose_key(content) for content in part] for part in contents(split)]
    assert sum(loose_key("question 1\x1fanswer 1") in part for part in parts) == 1


def test_text_without_letters_is_its_own_key():
    assert loose_key("+-*") != loose_key("***")
    assert loose_key("A b.") == loose_key("ab")


@pytest.mark.parametrize(
    "one, other",
    [
        ("-1", "1"),
        ("x = -1", "x = 1"),
        ("5 - 3", "5 3"),
        ("-x", "x"),
        ("\u22121", "1"),
        ("1.5", "15"),
        (".5", "5"),
        ("1,5", "15"),
        ("say 1 2", "say 12"),
        ("say 1\x1f2", "say 12"),
        ("10\u00b2", "102"),
        ("C++", "C"),
        ("C#", "C"),
        ("6 * 2", "6 / 2"),
        ("a != b", "a = b"),
        ("!done", "done"),
        ("$5", "\u20ac5"),
        ("5%", "5"),
        ("\U0001f600", "\U0001f621"),
        ("\u0915\u0940", "\u0915\u093f"),
        ("\u0915\u093e", "\u0915"),
    ],
)
def test_what_changes_a_meaning_keeps_rows_apart(one, other):
    assert loose_key(one) != loose_key(other)


@pytest.mark.parametrize(
    "one, other",
    [
        ("Hello, World!", "hello world"),
        ("well-known", "Well known"),
        ("GPT-4", "gpt 4"),
        ("[1, 2]", "[1,2]"),
        ("word -- word", "word\u2014word"),
        ("- item", "item"),
        ("\u201cx\u201d", "'x'"),
        ("`f` is", "f is"),
        ("\u22121", "-1"),
        ("the end.\nNext", "the end next"),
        ("yes \u2026 no?", "yes... no"),
        ("\u2764\ufe0f", "\u2764"),
        ("\u0939\u093e\u0901\u0964", "\u0939\u093e\u0901"),
    ],
)
def test_case_spaces_and_the_punctuation_of_sentences_do_not(one, other):
    assert loose_key(one) == loose_key(other)


def test_an_empty_part_is_one_clear_line():
    with pytest.raises(DataError) as caught:
        split_examples(examples(3), SplitSpec(validation=0.01, test=0.01))
    assert str(caught.value) == (
        "the validation part is empty: 3 rows were cut into 3 for training, 0 for validation and 0 for testing "
        "(0 dropped as repeats); give more rows or other shares than validation 0.01 and test 0.01"
    )


def test_repeats_are_told_by_where_they_stand():
    rows = examples(100)
    split = split_examples([*rows, *rows], SplitSpec(validation=0.2, test=0.2))
    once = split_examples(rows, SplitSpec(validation=0.2, test=0.2))
    assert (split.leaked, split.duplicates) == (0, len(once.train))
    assert split.repeated == len(once.validation) + len(once.test)
    assert len(split.train) == 2 * len(once.train)


def grouped(groups):
    return [Example(f"row {i}", f"question {i}", f"answer {i}", group=group) for i, group in enumerate(groups)]


def test_an_empty_part_of_few_groups_says_that_they_stay_together():
    with pytest.raises(DataError, match="part is empty: 100 rows in groups that stay together were cut into"):
        split_examples(grouped(["one"] * 100), SplitSpec())


def test_a_held_out_row_that_another_group_trains_on_is_dropped():
    rows = grouped([f"group {i % 40}" for i in range(400)])
    copies = [Example("copy", e.prompt, e.completion, group=f"copies of {e.origin}") for e in rows[::3]]
    split = split_examples(rows + copies, SplitSpec(validation=0.25, test=0.25))
    train = {e.content for e in split.train}
    assert split.leaked > 20
    assert not train & {e.content for e in [*split.validation, *split.test]}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text("abAB ,", min_size=1, max_size=4), st.sampled_from("uvwxyz")), min_size=30, max_size=80),
    st.integers(0, 1000),
    st.booleans(),
)
def test_whatever_the_rows_no_group_and_no_content_stands_in_two_parts(found, seed, with_groups):
    rows = [Example(f"row {i}", completion=text, group=g if with_groups else None) for i, (text, g) in enumerate(found)]
    try:
        split = split_examples(rows, SplitSpec(validation=0.25, test=0.25, seed=seed))
    except DataError:
        return  # all of a part were repeats, or fell into another
    keys = [{loose_key(e.content) for e in part} for part in split.parts.values()]
    groups = [{e.group for e in part} for part in split.parts.values()]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not keys[one] & keys[other]
        assert not with_groups or not groups[one] & groups[other]
    assert sum(map(len, split.parts.values())) + split.leaked + split.repeated == len(rows)
    assert (sum(split.groups.values()) > 0) is with_groups
