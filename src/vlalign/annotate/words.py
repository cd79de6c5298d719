"""Words of a caption with their character ranges, cut as the Penn Treebank and Stanza's English models expect them."""

import re

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


def word_ranges(caption: str) -> list[tuple[int, int]]:
    """Character ranges (start, end) of the words of `caption`: in order, disjoint, covering all but white space."""
    return [match.span() for match in WORD.finditer(caption)]


def sentence_ranges(caption: str, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Word ranges (first, last exclusive) of the sentences of `caption`; together they cover all of its words."""
    ends = [index for index, (start, _) in enumerate(ranges, start=1) if SENTENCE_END.match(caption, start)]
    if ranges and (not ends or ends[-1] < len(ranges)):
        ends.append(len(ranges))
    return list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []
