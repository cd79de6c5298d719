"""Trees of the embedded grammar as the files that Stanza trains on, and the bracket F1 in place of its Java scorer."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlalign.data.scenes.grammar import Tree, bracketed, leaves
from vlalign.errors import VlalignError

Brackets = Counter[tuple[str, int, int]]
# Stanza's tagger wants a universal tag beside the Penn Treebank's; the parser is trained on the latter.
UNIVERSAL_TAGS = {
    "CC": "CCONJ", "CD": "NUM", "DT": "DET", "EX": "PRON", "IN": "ADP", "JJ": "ADJ", "NN": "NOUN", "NNS": "NOUN",
    "RB": "ADV", "TO": "ADP", "VB": "VERB", "VBG": "VERB", "VBN": "VERB", "VBP": "VERB", "VBZ": "VERB",
    ",": "PUNCT", ".": "PUNCT",
}  # fmt: skip


@dataclass(frozen=True)
class Treebank:
    """Trees to learn from, to choose the best epoch by, and to measure the result on; no tree is in two parts."""

    train: list[Tree]
    development: list[Tree]
    held_out: list[Tree]


def split_trees(trees: Sequence[Tree], *, seed: int) -> Treebank:
    """Shuffle distinct trees; a twelfth is for development, a sixth held out. Raises VlalignError for too few trees."""
    if len(trees) < 50:
        raise VlalignError(f"annotate.parser.trees is {len(trees)}: a parser cannot be trained on fewer than 50 trees")
    shuffled = list(trees)
    random.Random(f"treebank/{seed}").shuffle(shuffled)
    first, second = len(trees) // 12, len(trees) // 4
    return Treebank(shuffled[second:], shuffled[:first], shuffled[first:second])


def write_brackets(path: Path, trees: Iterable[Tree]) -> None:
    """One bracketed tree per line."""
    path.write_text("".join(f"{bracketed(tree)}\n" for tree in trees), encoding="utf-8")


def write_conllu(path: Path, trees: Iterable[Tree]) -> None:
    """Words and tags in CoNLL-U; the heads are dummies, as a tagger never looks at them."""
    path.write_text("".join(_conllu(leaves(tree)) for tree in trees), encoding="utf-8")


def _conllu(words: list[tuple[str, str]]) -> str:
    lines = []
    for number, (tag, word) in enumerate(words, start=1):
        head = ("1", "dep") if number > 1 else ("0", "root")
        lines.append("\t".join((str(number), word, "_", UNIVERSAL_TAGS.get(tag, "X"), tag, "_", *head, "_", "_")))
    return "".join(f"{line}\n" for line in lines) + "\n"


def brackets(tree: Tree) -> Brackets:
    """Labelled word spans (label, first, last exclusive) of the constituents above the tags."""
    found: Brackets = Counter()

    def visit(node: Tree, first: int) -> int:
        label, children = node
        if isinstance(children, str):
            return first + 1
        last = first
        for child in children:
            last = visit(child, last)
        found[label, first, last] += 1
        return last

    visit(tree, 0)
    return found


def bracket_f1(pairs: Iterable[tuple[Brackets, Brackets]]) -> float:
    """Labelled bracketing F1 in percent over (gold, predicted) pairs, all brackets counted together as in evalb."""
    matched = total = 0
    for gold, predicted in pairs:
        matched += (gold & predicted).total()
        total += gold.total() + predicted.total()
    return 200.0 * matched / total if total else 0.0
