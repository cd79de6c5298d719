import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlalign.annotate.words import sentence_ranges, word_ranges


def words(caption):
    return [caption[start:end] for start, end in word_ranges(caption)]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a red dog", ["a", "red", "dog"]),
        ("a dog, a cat.", ["a", "dog", ",", "a", "cat", "."]),
        ("it doesn't bark", ["it", "does", "n't", "bark"]),
        ("the child’s bike", ["the", "child", "’s", "bike"]),
        ("a well-lit t-shirt", ["a", "well", "-", "lit", "t-shirt"]),
        ("st. john in the u.s. today", ["st.", "john", "in", "the", "u.s.", "today"]),
        ("10,000 dogs at 3:30", ["10,000", "dogs", "at", "3:30"]),
        ("red,green", ["red", ",", "green"]),
        ("what?! ...", ["what", "?!", "..."]),
        ("", []),
        ("  ", []),
    ],
)
def test_words_are_cut_like_the_penn_treebank(caption, expected):
    assert words(caption) == expected


@given(st.text(alphabet=st.sampled_from("abn't’ .,!-19é猫🐶\u200d"), max_size=40))
def test_word_ranges_are_in_order_disjoint_and_cover_all_but_white_space(caption):
    ranges = word_ranges(caption)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(ranges))
    covered = {place for start, end in ranges for place in range(start, end)}
    assert covered == {place for place, character in enumerate(caption) if not character.isspace()}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a dog", [(0, 2)]),
        ("a dog.", [(0, 3)]),
        ("a dog. two cats!", [(0, 3), (3, 6)]),
        ("st. john runs", [(0, 3)]),
        ("version 2.5 of a.b", [(0, 4)]),
        ("", []),
    ],
)
def test_sentences_end_at_full_stops(caption, expected):
    assert sentence_ranges(caption, word_ranges(caption)) == expected
