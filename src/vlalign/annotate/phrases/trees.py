"""What a parse of a caption is, and how Stanza's sentences become one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from vlalign.annotate.phrases.words import Cut


class Word(NamedTuple):
    """A word, its character range [start, end) in the caption, and its part-of-speech tag."""

    start: int
    end: int
    text: str
    tag: str


class Constituent(NamedTuple):
    """A labelled range of words, `last` exclusive."""

    label: str
    first: int
    last: int


@dataclass(frozen=True)
class Parse:
    """Words and constituents of a caption, outer constituents first; both empty and a cause named if it was skipped.

    Words are in order and disjoint, and none is empty. cut: only the first words were parsed.
    """

    words: tuple[Word, ...] = ()
    constituents: tuple[Constituent, ...] = ()
    skipped: str | None = None
    cut: bool = False


def joined(caption: str, cut: Cut, sentences: Sequence[Any]) -> Parse:
    """The parse of one caption from Stanza's sentences of the words of `cut`.

    Words without characters of their own leave the tree, and so do constituents of nothing else.
    Raises ValueError when a tree is not the tree of its sentence.
    """
    tags: list[str] = []
    leaves: list[str] = []
    constituents: list[Constituent] = []
    for sentence in sentences:
        constituents += tree_constituents(sentence.constituency, offset=len(tags))
        leaves += sentence.constituency.leaf_labels()
        tags += [word.xpos or word.upos for word in sentence.words]
    # Stanza drops the trees that it could not finish, and the ones behind them move up.
    if leaves != cut.texts:
        raise ValueError("the parser returned the tree of another sentence")
    words = tuple(
        Word(*span, caption[slice(*span)], tag) for span, tag in zip(cut.ranges, tags, strict=True) if span is not None
    )
    if len(words) < len(tags):
        # Only the words that have characters count.
        before = list(accumulate((span is not None for span in cut.ranges), initial=0))
        moved = (Constituent(label, before[first], before[last]) for label, first, last in constituents)
        constituents = [node for node in moved if node.first < node.last]
    return Parse(words, tuple(constituents), cut=cut.shortened)


def tree_constituents(tree: Any, *, offset: int = 0) -> list[Constituent]:
    """Constituents of a Stanza tree between its root and the tags, outer before inner; `offset` words precede the tree.

    Without recursion, since Python's would end at trees that are a thousand deep.
    """
    found: list[Constituent] = []
    place = offset
    # Nodes to visit, and between them the numbers of the constituents that end there.
    pending: list[Any] = list(reversed(tree.children))
    while pending:
        node = pending.pop()
        if isinstance(node, int):
            found[node] = found[node]._replace(last=place)
        elif node.is_leaf():
            place += 1
        elif node.is_preterminal():
            pending += node.children
        else:
            pending.append(len(found))
            found.append(Constituent(node.label, place, place))
            pending += reversed(node.children)
    return found
