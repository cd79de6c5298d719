"""Captions cut into sentences and words with their character ranges, before they are tagged and parsed."""

import itertools
import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any

# As the Penn Treebank and Stanza's English models expect them.
WORD = re.compile(
    r"""
      \b(?:mr|mrs|ms|dr|st|vs)\.(?=\s)      # a title's full stop ends no sentence
    | \w+?(?=n['’]t\b) | n['’]t\b           # does|n't
    | ['’](?:s|re|ve|ll|d|m)\b
    | \b[^\W\d](?:\.[^\W\d])+\.?            # u.s.
    | \b[^\W\d]-\w+                         # t-shirt; longer compounds are cut at the hyphen
    | \d+(?:[.,:]\d+)+
    | \w+
    | \.+ | [!?]+
    | [^\w\s]
    """,
    re.VERBOSE | re.IGNORECASE,
)
SENTENCE_END = re.compile(r"(?:\.+|[!?]+)(?=\s)")
# A word that is longer is no word, and the character models would spend seconds on it.
LONGEST_WORD = 100
# Files hold the places of words in 16 bits.
LONGEST_CAPTION = 65_535


@dataclass(frozen=True)
class Cut:
    """The words of a caption.

    Attributes:
        texts: each word as a tagger takes it, which is not what the caption says where a contraction is written out.
        ranges: their characters [start, end), in order and disjoint; None for the further words of a contraction whose
            characters cannot be told apart (German zum: zu, dem), since the first owns them all.
        sentences: ranges of words (first, last exclusive) that cover all of them.
        shortened: whether the rest of the caption was left out.
    """

    texts: list[str]
    ranges: list[tuple[int, int] | None]
    sentences: list[tuple[int, int]]
    shortened: bool = False


def cut_english(caption: str) -> Cut:
    """Cut by rule."""
    ranges = word_ranges(caption)
    return Cut([caption[start:end] for start, end in ranges], list(ranges), sentence_ranges(caption, ranges))


def word_ranges(caption: str) -> list[tuple[int, int]]:
    """Character ranges (start, end) of the words of `caption`: in order, disjoint, covering all but white space."""
    return [match.span() for match in WORD.finditer(caption)]


def sentence_ranges(caption: str, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Word ranges (first, last exclusive) of the sentences of `caption`; together they cover all of its words."""
    ends = [index for index, (start, _) in enumerate(ranges, start=1) if SENTENCE_END.match(caption, start)]
    if ranges and (not ends or ends[-1] < len(ranges)):
        ends.append(len(ranges))
    return list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []


def cut_document(document: Any) -> Cut:
    """The words that Stanza's tokenizer found in a text; raises ValueError where their places make no sense."""
    texts: list[str] = []
    ranges: list[tuple[int, int] | None] = []
    sentences = []
    for sentence in document.sentences:
        first = len(texts)
        for token in sentence.tokens:
            texts += [word.text for word in token.words]
            ranges += _token_ranges(token)
        sentences.append((first, len(texts)))
    spans = [span for span in ranges if span is not None]
    ordered = all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    if not ordered or any(start >= end for start, end in spans) or len(texts) != len(ranges) or not all(texts):
        raise ValueError("the tokenizer returned words that overlap or are empty")
    return Cut(texts, ranges, sentences)


def _token_ranges(token: Any) -> list[tuple[int, int] | None]:
    """The words' own ranges if all have them; otherwise the first has the token's and the others none."""
    own = [(word.start_char, word.end_char) for word in token.words]
    if len(own) > 1 and all(None not in span and span[0] < span[1] for span in own):
        return list(own)
    return [(token.start_char, token.end_char), *[None] * (len(own) - 1)]


def shorten(cut: Cut, max_words: int) -> Cut:
    """As many whole sentences from the start as `max_words` allow, or else that many words of the first.

    A word of over 100 characters ends it too. Words of one contraction stay together. There may be none left.
    """
    limit = parsable(cut, max_words)
    if limit == len(cut.texts):
        return cut
    ends = [last for _, last in cut.sentences]
    whole = bisect_right(ends, limit)
    if whole:
        limit = ends[whole - 1]
    while limit and cut.ranges[limit] is None:
        limit -= 1
    sentences = [(first, min(last, limit)) for first, last in cut.sentences if first < limit]
    return replace(cut, texts=cut.texts[:limit], ranges=cut.ranges[:limit], sentences=sentences, shortened=True)


def parsable(cut: Cut, max_words: int) -> int:
    """How many words from the start are no more than `max_words` and no longer than 100 characters each."""
    words = zip(cut.texts[:max_words], cut.ranges[:max_words], strict=True)
    # Stanza's tokenizer gives another text to what it finds too long.
    lengths = (len(text) if span is None else max(len(text), span[1] - span[0]) for text, span in words)
    return sum(1 for _ in itertools.takewhile(lambda length: length <= LONGEST_WORD, lengths))


def beginning(caption: str, longest: int) -> str:
    """The caption, or its first `longest` characters without a word that ends later."""
    if len(caption) <= longest:
        return caption
    kept, _, _ = caption[: longest + 1].rpartition(" ")
    return kept or caption[:longest]
