import itertools
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlalign.annotate.phrases.words import (
    Cut,
    beginning,
    cut_document,
    cut_english,
    parsable,
    sentence_ranges,
    shorten,
    word_ranges,
)


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


def test_a_cut_caption_has_its_words_and_sentences():
    assert cut_english("a dog. cats") == Cut(
        ["a", "dog", ".", "cats"], [(0, 1), (2, 5), (5, 6), (7, 11)], [(0, 3), (3, 4)]
    )
    assert cut_english(" ") == Cut([], [], [])


@pytest.mark.parametrize(
    ("caption", "count", "expected", "sentences"),
    [
        ("a dog. a cat. a bus", 8, ["a", "dog", ".", "a", "cat", ".", "a", "bus"], [(0, 3), (3, 6), (6, 8)]),
        ("a dog. a cat. a bus", 7, ["a", "dog", ".", "a", "cat", "."], [(0, 3), (3, 6)]),
        ("a dog. a cat. a bus", 6, ["a", "dog", ".", "a", "cat", "."], [(0, 3), (3, 6)]),
        ("a dog. a cat. a bus", 5, ["a", "dog", "."], [(0, 3)]),
        ("a dog. a cat. a bus", 2, ["a", "dog"], [(0, 2)]),
        ("a dog " + "x" * 101 + " a cat", 9, ["a", "dog"], [(0, 2)]),
        ("a. dog " + "x" * 101 + " a cat", 9, ["a", "."], [(0, 2)]),
        ("x" * 101, 9, [], []),
    ],
)
def test_captions_are_shortened_to_whole_sentences_or_to_words(caption, count, expected, sentences):
    whole = cut_english(caption)
    cut = shorten(whole, count)
    assert cut.texts == expected
    assert cut.ranges == whole.ranges[: len(expected)]
    assert cut.sentences == sentences
    assert cut.shortened == (cut.texts != whole.texts)


def test_words_of_one_contraction_are_not_separated():
    cut = Cut(["hund", "zu", "dem", "baum"], [(0, 4), (5, 8), None, (9, 13)], [(0, 4)])
    assert shorten(cut, 2).texts == ["hund"]
    assert shorten(cut, 3).texts == ["hund", "zu", "dem"]


def test_a_word_that_the_tokenizer_renamed_is_as_long_as_its_characters():
    assert parsable(Cut(["a", "<UNK>"], [(0, 1), (2, 1500)], [(0, 2)]), 9) == 1


def test_the_beginning_of_a_caption_ends_with_a_word():
    assert beginning("a dog", 5) == beginning("a dog", 9) == "a dog"
    assert beginning("a dog", 4) == "a"
    assert beginning("a dog barks", 5) == "a dog"
    assert beginning("xxxxxxx", 4) == "xxxx"


def token(start, end, *words):
    """As much of Stanza's token as is read; words are (text, start, end)."""
    names = ("text", "start_char", "end_char")
    return SimpleNamespace(
        start_char=start, end_char=end, words=[SimpleNamespace(**dict(zip(names, word, strict=True))) for word in words]
    )


def document(*sentences):
    return SimpleNamespace(sentences=[SimpleNamespace(tokens=tokens) for tokens in sentences])


def test_words_of_a_tokenizer_keep_their_characters():
    found = cut_document(
        document(
            [token(0, 3, ("don", 0, 3)), token(4, 7, ("zu", None, None), ("dem", None, None))],
            [token(8, 13, ("do", 8, 10), ("n't", 10, 13))],
        )
    )
    assert found.texts == ["don", "zu", "dem", "do", "n't"]
    assert found.ranges == [(0, 3), (4, 7), None, (8, 10), (10, 13)]
    assert found.sentences == [(0, 3), (3, 5)]


def test_words_that_only_some_have_places_share_the_place_of_their_token():
    found = cut_document(document([token(0, 4, ("de", 0, 2), ("el", None, None))]))
    assert found.ranges == [(0, 4), None]


@pytest.mark.parametrize(
    "tokens",
    [
        [token(0, 3, ("a", 0, 3)), token(2, 5, ("b", 2, 5))],
        [token(4, 5, ("a", 4, 5)), token(0, 3, ("b", 0, 3))],
        [token(0, 3, ("a", 0, 3)), token(4, 6)],
        [token(0, 3, ("", 0, 3))],
        [token(3, 3, ("a", 3, 3))],
    ],
    ids=["overlap", "order", "a token without words", "no text", "no characters"],
)
def test_words_whose_places_make_no_sense_are_refused(tokens):
    with pytest.raises(ValueError, match="overlap or are empty"):
        cut_document(document(tokens))
