"""The split follows from content and seed alone, and nothing held out was trained on."""

import random

import pytest

from hpo_service.domain.data_spec import SplitSpec
from hpo_service.errors import DataError
from hpo_service.training.formats import Example
from hpo_service.training.split import loose_key, normalised, split_examples


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
    assert split.dropped > 50
    assert not set(keys[0]) & set(keys[1] + keys[2])
    assert len(set(keys[1] + keys[2])) == len(keys[1] + keys[2])
    assert sum(map(len, keys)) + split.dropped == 800


def test_differences_that_nobody_sees_do_not_separate_rows():
    assert normalised("  Café\n au\tlait ") == normalised("Café au lait")
    split = split_examples([*examples(200), Example("x", "question 1 ", " answer  1")], SplitSpec())
    parts = [[loose_key(content) for content in part] for part in contents(split)]
    assert sum(loose_key("question 1\x1fanswer 1") in part for part in parts) == 1


def test_text_without_letters_is_its_own_key():
    assert loose_key("+-*") != loose_key("***")
    assert loose_key("A b.") == loose_key("ab")


def test_an_empty_part_is_one_clear_line():
    with pytest.raises(DataError) as caught:
        split_examples(examples(3), SplitSpec(validation=0.01, test=0.01))
    assert str(caught.value) == (
        "the validation part is empty: 3 rows were cut into 3 for training, 0 for validation and 0 for testing "
        "(0 dropped as repeats); give more rows or other shares than validation 0.01 and test 0.01"
    )
