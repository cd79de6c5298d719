"""Twins of a caption: the same caption with two of its parts exchanged, or with an opposite in the place of a word.

A picture of which the caption is true is one of which its twin is false: a hard negative that needs no language model
and no second picture (after NegCLIP, Yuksekgonul et al., arXiv 2210.01936, section 4). They are made from the parse
alone, by rules that know no dataset. The words that the rules need are English, those of `twin_words`.
"""

import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from vlalign.annotate.phrases.phrase_files import ParsedCaption
from vlalign.annotate.phrases.trees import Constituent
from vlalign.annotate.phrases.twin_words import (
    ADJECTIVES,
    CONJUNCTIONS,
    CONNECTORS,
    NOUNS,
    NUMBERS,
    OPPOSITES,
    PLACES,
    VERBS,
)

ARTICLE = re.compile(r"\b(an?)\s+(\w)")
LONGEST_OPPOSITE = max(len(phrase.split()) for phrase in OPPOSITES)
Item = TypeVar("Item")


def drawn_twins(entry: ParsedCaption, kinds: Sequence[str], draw: random.Random) -> Iterator[str]:
    """All twins of a caption in the order in which they are drawn; there may be none.

    Every kind is as likely to come first, and in it every way to make one.

    kinds: "swap": two phrases, or two adjectives, nouns or numbers of two noun phrases, have changed places. "flip": a
    word or phrase has become its opposite. draw: gives the order.
    """
    for kind in _shuffled(kinds, draw):
        for make in _shuffled(WAYS[kind], draw):
            for text in make(_Tree.of(entry), draw):
                if _differs(text, entry.caption):
                    yield text


class _Tree(NamedTuple):
    """A parsed caption, and its constituents without repetition, the longest first."""

    entry: ParsedCaption
    parts: list[Constituent]

    @classmethod
    def of(cls, entry: ParsedCaption) -> "_Tree":
        return cls(entry, sorted(set(entry.constituents), key=lambda part: (part.first - part.last, part)))

    def text(self, first: int, last: int) -> str:
        """The caption from one word to before another."""
        words = self.entry.words
        return self.entry.caption[words[first].start : words[last - 1].end] if first < last else ""

    def exchanged(self, a: tuple[int, int], b: tuple[int, int], *, within: tuple[int, int] | None = None) -> str:
        """The caption, or a part of it, in which the words of ranges a and b, of which a is first, change places."""
        words, caption = self.entry.words, self.entry.caption
        start, end = (words[within[0]].start, words[within[1] - 1].end) if within else (0, len(caption))
        between = caption[words[a[1] - 1].end : words[b[0]].start]
        before, after = caption[start : words[a[0]].start], caption[words[b[1] - 1].end : end]
        return f"{before}{self.text(*b)}{between}{self.text(*a)}{after}"

    def nouns(self, part: Constituent) -> list[str]:
        """Those of a part, as they are written."""
        return [word.text.lower() for word in self.entry.words[part.first : part.last] if word.tag in NOUNS]

    def names_object(self, part: Constituent) -> bool:
        """Whether it is a noun phrase with a noun that is more than a place."""
        return _is_noun_phrase(part) and any(noun not in PLACES for noun in self.nouns(part))

    def base_phrases(self) -> list[Constituent]:
        """Noun phrases with a noun in them and without another noun phrase, in the order of their words."""
        phrases = [part for part in self.parts if _is_noun_phrase(part)]
        found = [
            part
            for part in phrases
            if self.nouns(part) and not any(_holds(part, other) and other != part for other in phrases)
        ]
        return sorted(found, key=lambda part: part.first)


def _swapped_phrases(tree: _Tree, draw: random.Random) -> Iterator[str]:
    """Two of one label that do not overlap; of noun phrases those without others in them, objects or places both."""
    candidates = tree.base_phrases() + [part for part in tree.parts if not _is_noun_phrase(part)]
    for a, b in _shuffled(_in_order(candidates), draw):
        alike = _is_noun_phrase(a) == _is_noun_phrase(b) if _is_noun_phrase(a) else a.label == b.label
        if alike and tree.names_object(a) == tree.names_object(b) and _matters(tree, a, b):
            yield tree.exchanged(_range(a), _range(b))


def _swapped_words(tags: frozenset[str], *, aligned: bool) -> Callable[[_Tree, random.Random], Iterator[str]]:
    """Two words of one tag in two noun phrases. aligned: as far from the end of their phrase, where a head stands last
    and colours come after sizes."""

    def make(tree: _Tree, draw: random.Random) -> Iterator[str]:
        words, found = tree.entry.words, []
        for a, b in _in_order(tree.base_phrases()):
            for i, j in itertools.product(range(*_range(a)), range(*_range(b))):
                alike = words[i].tag == words[j].tag in tags and words[i].text != words[j].text
                in_line = not aligned or a.last - i == b.last - j
                if alike and in_line and (words[i].text in PLACES) == (words[j].text in PLACES):
                    found.append((a, b, i, j))
        for a, b, i, j in _shuffled(found, draw):
            one, other = (i, i + 1), (j, j + 1)
            # Where the phrases differ in nothing else, they themselves are exchanged.
            whole = tree.exchanged(one, other) == tree.exchanged(_range(a), _range(b))
            if not whole or _matters(tree, a, b):
                yield tree.exchanged(one, other)

    return make


def _flipped(tree: _Tree, draw: random.Random) -> Iterator[str]:
    """A word, or a few, in whose place its opposite stands; verbs are no places ("left")."""
    words, caption, found, place = tree.entry.words, tree.entry.caption, [], 0
    while place < len(words):
        for last in range(min(place + LONGEST_OPPOSITE, len(words)), place, -1):
            opposite = OPPOSITES.get(" ".join(word.text.lower() for word in words[place:last]))
            if opposite and words[place].tag not in VERBS:
                found.append(f"{caption[: words[place].start]}{opposite}{caption[words[last - 1].end :]}")
                place = last - 1
                break
        place += 1
    yield from _shuffled(found, draw)


# How a twin of each kind is made.
WAYS: dict[str, tuple[Callable[[_Tree, random.Random], Iterator[str]], ...]] = {
    "swap": (
        _swapped_phrases,
        _swapped_words(ADJECTIVES, aligned=True),
        _swapped_words(NOUNS, aligned=True),
        _swapped_words(NUMBERS, aligned=False),
    ),
    "flip": (_flipped,),
}


def _matters(tree: _Tree, a: Constituent, b: Constituent) -> bool:
    """Whether a caption says something else once two of its constituents, of which a is first, have changed places.

    It does not where only connectors lie between them and around them ("a and b"), where both hang on one thing ("x on
    a at b"), and where all that hangs on either is the same ("x on the left and x on the right").
    """
    whole = _smallest_around(tree, a, b)
    outer_a, outer_b = _below(tree, whole, a), _below(tree, whole, b)
    if (outer_a, outer_b) != (a, b):
        span = (outer_a.first, outer_b.last)
        ranges = (_range(a), _range(b)), (_range(outer_a), _range(outer_b))
        one, other = (tree.exchanged(*pair, within=span) for pair in ranges)
        if one == other:
            return _matters(tree, outer_a, outer_b)
    if not _is_noun_phrase(a):
        return outer_a != a and outer_b != b
    objects = [part for part in tree.parts if tree.names_object(part) and not _touches(part, a) | _touches(part, b)]
    left_out = {place for part in (a, b, *objects) for place in range(*_range(part))}
    rest = [tree.entry.words[place] for place in range(*whole) if place not in left_out]
    return any(word.text.lower() not in CONNECTORS and word.tag not in CONJUNCTIONS for word in rest)


def _smallest_around(tree: _Tree, a: Constituent, b: Constituent) -> tuple[int, int]:
    """The words of the smallest constituent that holds both, or of the whole caption."""
    around = (part for part in reversed(tree.parts) if part.first <= a.first and b.last <= part.last)
    return next(map(_range, around), (0, len(tree.entry.words)))


def _below(tree: _Tree, whole: tuple[int, int], part: Constituent) -> Constituent:
    """The largest constituent that is less than the whole and holds a part; itself where there is no other."""
    first, last = whole
    around = (other for other in tree.parts if _holds(other, part) and _range(other) != whole)
    found = next((other for other in around if first <= other.first and other.last <= last), part)
    return part if _range(found) == _range(part) else found


def _differs(text: str, caption: str) -> bool:
    """Whether it has other words, and no mistake of grammar more, which would give it away."""
    return text.split() != caption.split() and _mistakes(text) <= _mistakes(caption)


def _mistakes(text: str) -> int:
    """How often `a` or `an` does not suit the next word, or a word is repeated."""
    words = text.split()
    articles = ((match[1] == "an") != (match[2] in "aeiou") for match in ARTICLE.finditer(text))
    return sum(articles) + sum(one == other for one, other in itertools.pairwise(words))


def _is_noun_phrase(part: Constituent) -> bool:
    return part.label.startswith("NP")


def _range(part: Constituent) -> tuple[int, int]:
    return part.first, part.last


def _holds(outer: Constituent, inner: Constituent) -> bool:
    return outer.first <= inner.first and inner.last <= outer.last


def _touches(a: Constituent, b: Constituent) -> bool:
    return a.first < b.last and b.first < a.last


def _in_order(parts: Sequence[Constituent]) -> list[tuple[Constituent, Constituent]]:
    """All pairs that do not overlap, the one that comes first in the caption first."""
    ordered = sorted(parts, key=lambda part: (part.first, part.last, part.label))
    return [(a, b) for a, b in itertools.combinations(ordered, 2) if a.last <= b.first]


def _shuffled(items: Sequence[Item], draw: random.Random) -> list[Item]:
    return draw.sample(items, len(items))
