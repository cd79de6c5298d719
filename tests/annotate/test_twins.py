"""Twins of captions, of parses that are written out as the Penn Treebank writes them."""

import random
import re

import pytest

from vlalign.annotate.phrases.annotation import Constituent, ParsedCaption, Word
from vlalign.annotate.phrases.twin_words import CONNECTORS, OPPOSITES, PLACES
from vlalign.annotate.phrases.twins import WAYS, drawn_twins

CAT, DOG, BIRD = "(NP (DT a) (JJ red) (NN cat))", "(NP (DT a) (JJ blue) (NN dog))", "(NP (DT a) (NN bird))"
ABOVE = f"(NP {CAT} (PP (IN above) {DOG}))"
LEFT_OF = f"(NP {CAT} (PP (TO to) (NP (NP (DT the) (NN left)) (PP (IN of) {DOG}))))"


def parsed(tree):
    """A bracketed tree as a parsed caption."""
    words, parts, open_parts, start = [], [], [], 0
    for label, tag, text, end in re.findall(r"\((\S+) (?=\()|\((\S+) ([^()\s]+)\)|(\))", tree):
        if label:
            open_parts.append((len(parts), label, len(words)))
            parts.append(None)
        elif end:
            number, name, first = open_parts.pop()
            parts[number] = Constituent(name, first, len(words))
        else:
            words.append(Word(start, start + len(text), text, tag))
            start += len(text) + 1
    return ParsedCaption("k", 0, " ".join(word.text for word in words), tuple(words), tuple(parts))


def twins(tree, *kinds):
    return set(drawn_twins(parsed(tree), kinds or tuple(WAYS), random.Random(0)))


def placed(noun, side):
    return f"(NP {noun} (PP (IN on) (NP (DT the) (NN {side}))))"


def test_phrases_and_words_change_places():
    assert twins(ABOVE, "swap") == {
        "a blue dog above a red cat",
        "a blue cat above a red dog",
        "a red dog above a blue cat",
    }
    assert twins("(NP (NP (CD two) (NNS cats)) (CC and) (NP (CD three) (JJ big) (NNS dogs)))") == {
        "three cats and two big dogs",
        "two dogs and three big cats",
        "two cats and three little dogs",
    }


def test_words_become_their_opposites():
    assert twins(LEFT_OF, "flip") == {"a red cat to the right of a blue dog"}
    behind = f"(NP {BIRD} (PP (IN in) (NP (NP (NN front)) (PP (IN of) {CAT}))))"
    assert twins(behind, "flip") == {"a bird behind a red cat"}
    assert twins("(S (NP (DT a) (NN man)) (VP (VBD left) (NP (DT the) (JJ open) (NN house))))", "flip") == {
        "a man left the closed house"
    }


def test_places_and_objects_are_told_apart():
    assert twins(LEFT_OF, "swap") == {
        "a blue dog to the left of a red cat",
        "a blue cat to the left of a red dog",
        "a red dog to the left of a blue cat",
    }
    both = f"(NP {placed(BIRD, 'left')} (CC and) {placed(CAT, 'right')})"
    assert twins(both, "swap") == {
        "a bird on the right and a red cat on the left",
        "a red cat on the left and a bird on the right",
        "a cat on the left and a red bird on the right",
    }


@pytest.mark.parametrize(
    "tree",
    [
        f"(NP {BIRD} (CC and) {CAT})",
        f"(NP {BIRD} (PP (IN with) {CAT}))",
        f"(NP {BIRD} (ADVP (JJ next) (PP (TO to) {CAT})))",
        f"(S (NP (EX there)) (VP (VBZ is) (NP {BIRD} (CC and) {CAT})))",
        f"(S {BIRD} (VP (VBZ is) (PP (IN near) {CAT})))",
    ],
)
def test_what_is_only_joined_means_the_same_the_other_way_round(tree):
    """All that is left is the colour of the other."""
    caption = parsed(tree).caption
    assert twins(tree, "swap") == {caption.replace("bird", "_").replace("cat", "bird").replace("_", "cat")}


def test_the_same_beside_either_changes_nothing():
    same = f"(NP {placed(BIRD, 'left')} (CC and) {placed(BIRD, 'right')})"
    assert not twins(same, "swap")
    alike = f"(NP {placed(CAT, 'left')} (CC and) {placed(CAT.replace('red', 'blue'), 'left')})"
    assert not twins(alike, "swap")
    assert twins(same, "flip") == {
        "a bird on the right and a bird on the right",
        "a bird on the left and a bird on the left",
    }


def test_modifiers_of_one_thing_change_no_places():
    on_two = f"(NP {BIRD} (PP (IN above) {CAT}) (PP (IN on) (NP (DT a) (NN chair))))"
    assert "a bird on a chair above a red cat" not in twins(on_two, "swap")
    nested = f"(NP (NP {BIRD} (PP (IN above) {CAT})) (PP (IN on) (NP (DT a) (NN chair))))"
    assert "a bird on a chair above a red cat" not in twins(nested, "swap")
    each = "(S (S (NP (DT a) (NN man)) (VP (VBZ sits))) (CC and) (S (NP (DT a) (NN dog)) (VP (VBZ runs))))"
    assert "a man runs and a dog sits" in twins(each, "swap")


def test_three_that_are_joined_mean_the_same_in_any_order():
    three = f"(NP (NP {BIRD} (CC and) {CAT}) (PP (IN with) (NP (DT a) (NN house))))"
    assert "a house and a red cat with a bird" not in twins(three, "swap")
    above = f"(NP (NP {BIRD} (PP (IN above) {CAT})) (PP (IN with) (NP (DT a) (NN house))))"
    assert "a house above a red cat with a bird" in twins(above, "swap")


def test_a_mistake_of_grammar_gives_no_twin_away():
    assert twins("(NP (NP (DT an) (JJ old) (NN cat)) (PP (IN above) (NP (DT a) (JJ blue) (NN dog))))", "swap") == {
        "a blue dog above an old cat",
        "an old dog above a blue cat",
    }
    # Where captions make it themselves, it gives nothing away.
    assert "a blue cat above a old dog" in twins(ABOVE.replace("red", "old"))
    repeated = ABOVE.replace("red", "large").replace("(JJ blue)", "(JJ large) (JJ blue)")
    assert "a blue cat above a large large dog" not in twins(repeated)


@pytest.mark.parametrize("tree", ["(NP (DT a) (NN cat))", "(S (NP (EX there)) (VP (VBZ is) (NP (DT a) (NN cat))))"])
def test_a_caption_may_have_none(tree):
    assert not twins(tree)
    assert not list(drawn_twins(ParsedCaption("k", 0, "", skipped="empty"), ("swap", "flip"), random.Random(0)))


def test_they_depend_on_the_numbers_that_are_drawn_alone_and_every_kind_comes_first():
    entry = parsed(LEFT_OF)

    def first(seed):
        return next(drawn_twins(entry, ("swap", "flip"), random.Random(seed)))

    drawn = [first(seed) for seed in range(400)]
    assert drawn == [first(seed) for seed in range(400)]
    assert set(drawn) == twins(LEFT_OF)
    flips = sum(text in twins(LEFT_OF, "flip") for text in drawn)
    assert 150 < flips < 250, "either kind is as likely"


def test_characters_beside_words_stay():
    entry = parsed(ABOVE)
    caption = entry.caption.replace(" above", ",  above") + " (c) tom"
    words = tuple(
        word if place < 3 else word._replace(start=word.start + 2, end=word.end + 2)
        for place, word in enumerate(entry.words)
    )
    entry = ParsedCaption("k", 0, caption, words, entry.constituents)
    assert "a blue dog,  above a red cat (c) tom" in set(drawn_twins(entry, ("swap",), random.Random(0)))


def test_the_tables_are_of_lower_case_words():
    every = {*OPPOSITES, *OPPOSITES.values(), *PLACES, *CONNECTORS}
    assert all(text == text.lower().strip() for text in every)
    assert all(OPPOSITES[opposite] for opposite in OPPOSITES.values() if opposite in OPPOSITES)
    assert not any(phrase == opposite for phrase, opposite in OPPOSITES.items())
