"""Captions of the embedded dataset as constituency trees whose phrases know the objects they refer to.

One grammar serves three readers: the scenes take their captions from it, the tiny parser its training trees, and the
grounding benchmark its phrases with referents. Labels and tags are the Penn Treebank's; every attachment is decided by
the grammar, so that a parser can learn it without error.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

from vlalign.data.scenes.scene import INVERSE, PLURALS, Group, Scene, sample_scene

Tree = tuple[str, str | list["Tree"]]
COUNTS = {1: "a", 2: "two", 3: "three"}
# The words of a relation, as (preposition phrase towards the second object).
SIDES = {
    "left": ("on", "left", "right"),
    "right": ("on", "right", "left"),
    "above": ("at", "top", "bottom"),
    "below": ("at", "bottom", "top"),
}


@dataclass(frozen=True)
class Node:
    """A constituent: label, children (nodes, or (tag, word) leaves), and the objects it refers to, if any."""

    label: str
    children: tuple[Union["Node", tuple[str, str]], ...]
    instances: tuple[int, ...] = ()
    kind: str | None = None

    def tree(self) -> Tree:
        """The same constituent as nested tuples (label, children)."""
        return self.label, [child.tree() if isinstance(child, Node) else child for child in self.children]

    def words(self) -> list[str]:
        """The leaves, from left to right."""
        return [w for child in self.children for w in (child.words() if isinstance(child, Node) else [child[1]])]

    def text(self) -> str:
        """The caption: words with single spaces."""
        return " ".join(self.words())

    def phrases(self, start: int = 0) -> Iterator[tuple[int, int, "Node"]]:
        """Every constituent that refers to objects, with its character range in the caption."""
        if self.kind:
            yield start, start + len(self.text()), self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.phrases(start)
                start += len(child.text()) + 1
            else:
                start += len(child[1]) + 1


def text(tree: Tree) -> str:
    """The words of a tree with single spaces."""
    return " ".join(word for _, word in leaves(tree))


def leaves(tree: Tree) -> list[tuple[str, str]]:
    """The (tag, word) pairs of a tree from left to right."""
    label, children = tree
    if isinstance(children, str):
        return [(label, children)]
    return [leaf for child in children for leaf in leaves(child)]


def bracketed(tree: Tree) -> str:
    """One line of a Penn Treebank file, with a ROOT node on top."""

    def inner(node: Tree) -> str:
        label, children = node
        return f"({label} {children if isinstance(children, str) else ' '.join(map(inner, children))})"

    return f"(ROOT {inner(tree)})"


def caption(
    scene: Scene,
    rng: random.Random,
    *,
    mentioned: tuple[int, ...] | None = None,
    full: bool = False,
    template: int | None = None,
    background: bool | None = None,
) -> Node:
    """A caption that is true of `scene`.

    mentioned: indices of the groups that are named (all groups of a simple scene by default). full: name every
    attribute, as the held-out splits do, so that a caption fits one picture only. template, background: fixed for pairs
    of captions that must differ in one thing alone.
    """
    groups = scene.groups if mentioned is None else [scene.groups[index] for index in mentioned]
    nouns = [_noun_phrase(group, scene, rng, full=full) for group in groups]
    draw = rng.random()
    template = rng.randrange(12) if template is None else template
    with_background = draw < 0.3 if background is None else background
    behind = None
    if with_background:
        behind = Node("PP", (("IN", "on"), Node("NP", (("DT", "a"), ("JJ", scene.background), ("NN", "background")))))
    if scene.relation is not None and len(nouns) >= 2:
        return _related(nouns, scene.relation, template, behind)
    return _listed(nouns, template, behind)


def _noun_phrase(group: Group, scene: Scene, rng: random.Random, *, full: bool) -> Node:
    """A base noun phrase; the tint is always named where another group shares the class."""
    twins = sum(other.name == group.name for other in scene.groups) > 1
    words: list[tuple[str, str]] = [("DT" if group.count == 1 else "CD", COUNTS[group.count])]
    if group.size and (full or rng.random() < 0.5):
        words.append(("JJ", group.size))
    if group.tint and (full or twins or rng.random() < 0.9):
        words.append(("JJ", group.tint))
    words.append(("NN", group.name) if group.count == 1 else ("NNS", PLURALS.get(group.name, f"{group.name}s")))
    return Node("NP", tuple(words), group.instances, "one" if group.count == 1 else "count")


def _preposition(word: str, noun: Node) -> Node:
    return Node("PP", (("IN", word), noun))


def _towards(relation: str, noun: Node) -> Node:
    """`above NP`, `to the left of NP`."""
    if relation in ("above", "below"):
        return _preposition(relation, noun)
    side = Node("NP", (Node("NP", (("DT", "the"), ("NN", relation))), _preposition("of", noun)))
    return Node("PP", (("TO", "to"), side))


def _place(preposition: str, side: str) -> Node:
    return _preposition(preposition, Node("NP", (("DT", "the"), ("NN", side))))


def _and(first: Node, second: Node) -> Node:
    return Node("NP", (first, ("CC", "and"), second), first.instances + second.instances, "conjunction")


def _related(nouns: list[Node], relation: str, template: int, background: Node | None) -> Node:
    """Two objects in a spatial relation, perhaps with a third."""
    first, second, *rest = nouns
    tail = [_preposition("with", rest[0])] if rest else []
    tail += [background] if background else []
    match template % 4:
        case 0:
            return Node("NP", (first, _towards(relation, second), *tail))
        case 1:
            return Node("NP", (second, _towards(INVERSE[relation], first), *tail))
        case 2:
            verb = Node("VP", (("VBZ", "is"), _towards(relation, second), *tail))
            return Node("S", (first, verb))
        case _:
            preposition, here, there = SIDES[relation]
            placed = Node("NP", (first, _place(preposition, here)))
            other = Node("NP", (second, _place(preposition, there)))
            both = Node("NP", (placed, ("CC", "and"), other), first.instances + second.instances, "conjunction")
            return Node("NP", (both, *tail)) if tail else both


def _listed(nouns: list[Node], template: int, background: Node | None) -> Node:
    """One to three noun phrases joined by `and` and `with`, sometimes as a sentence with `there`."""
    plain = _joined(nouns, template)
    body = Node("NP", (plain, background)) if background else plain
    if template < 8:
        return body
    plural = plain.kind == "conjunction" or nouns[0].kind == "count"
    verb = ("VBP", "are") if plural else ("VBZ", "is")
    return Node("S", (Node("NP", (("EX", "there"),)), Node("VP", (verb, body))))


def _joined(nouns: list[Node], template: int) -> Node:
    match len(nouns), template % 2:
        case 1, _:
            return nouns[0]
        case 2, 0:
            return _and(nouns[0], nouns[1])
        case 2, _:
            return Node("NP", (nouns[0], _preposition("with", nouns[1])))
        case _, 0:
            return Node("NP", (_and(nouns[0], nouns[1]), _preposition("with", nouns[2])))
        case _:
            return Node("NP", (nouns[0], _preposition("with", _and(nouns[1], nouns[2]))))


def mention(scene: Scene, rng: random.Random, *, least: int = 1) -> tuple[int, ...] | None:
    """The groups that a caption names: all of a simple scene, at most all but one of a cluttered one."""
    if scene.stratum == "simple":
        return None
    most = len(scene.groups) - 1
    wanted = rng.choices((1, 2, 3), (0.25, 0.45, 0.3))[0]
    return tuple(rng.sample(range(len(scene.groups)), min(max(wanted, least), most)))


def sample_trees(count: int, *, seed: int, classes: int = 20) -> list[Tree]:
    """`count` distinct trees of the grammar: what the tiny parser is trained on."""
    rng = random.Random(f"trees/{seed}")
    found: dict[str, Tree] = {}
    while len(found) < count:
        scene = sample_scene(rng, "simple" if rng.random() < 0.5 else "clutter", classes=classes)
        node = caption(scene, rng, mentioned=mention(scene, rng))
        found.setdefault(node.text(), node.tree())
    return list(found.values())
