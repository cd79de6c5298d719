import random
import re

import pytest
from caption_words import named

from vlalign.data.scenes.grammar import bracketed, caption, leaves, mention, sample_trees, text
from vlalign.data.scenes.scene import CLASSES, sample_scene


def referents(words, scene):
    """The instances that a phrase can mean: each group that it names must fit one group of the scene alone."""
    found = []
    for count, size, tint, name in named(words):
        (group,) = (
            group
            for group in scene.groups
            if (group.name, group.count) == (name, count)
            and size in (None, group.size)
            and (tint == group.tint or (tint is None and twinless(group, scene)))
        )
        found += group.instances
    return sorted(found)


def twinless(group, scene):
    return sum(other.name == group.name for other in scene.groups) == 1


def read_tree(line):
    """A naive reader of bracketed trees: (label, children) or (tag, word)."""
    tokens = iter(re.findall(r"[()]|[^\s()]+", line))

    def inner():
        label, children = next(tokens), []
        for token in tokens:
            if token == ")":
                return (label, children[0] if isinstance(children[0], str) else children)
            children.append(inner() if token == "(" else token)
        raise AssertionError("a bracket is open")

    assert next(tokens) == "("
    tree = inner()
    assert next(tokens, None) is None
    return tree


def untupled(tree):
    label, children = tree
    return [label, children if isinstance(children, str) else [untupled(child) for child in children]]


def examples(count, *, full):
    rng = random.Random(0)
    for index in range(count):
        scene = sample_scene(rng, "simple" if index % 2 else "clutter")
        yield scene, caption(scene, rng, mentioned=mention(scene, rng), full=full)


@pytest.mark.parametrize("full", [False, True])
def test_the_characters_of_a_phrase_are_its_words(full):
    for _, node in examples(500, full=full):
        for start, end, phrase in node.phrases():
            assert node.text()[start:end] == phrase.text()


@pytest.mark.parametrize("full", [False, True])
def test_referents_are_those_that_the_words_name(full):
    kinds = set()
    for scene, node in examples(1000, full=full):
        phrases = list(node.phrases())
        assert phrases, "every caption names an object"
        for _, _, phrase in phrases:
            assert sorted(phrase.instances) == referents(phrase.text(), scene), phrase.text()
            groups = list(named(phrase.text()))
            expected = "conjunction" if len(groups) > 1 else "count" if groups[0][0] > 1 else "one"
            assert phrase.kind == expected
            kinds.add(phrase.kind)
    assert kinds == {"one", "count", "conjunction"}


def test_full_captions_name_every_attribute():
    for scene, node in examples(300, full=True):
        groups = {(group.count, group.size, group.tint, group.name) for group in scene.groups}
        assert set(named(node.text())) <= groups


def test_captions_are_clean():
    for _, node in examples(500, full=False):
        assert re.fullmatch(r"[a-z]+( [a-z]+)*", node.text())


def test_relations_are_true_of_the_places():
    """The first object of a simple scene stands to its relation's side of the second."""
    rng = random.Random(1)
    for _ in range(300):
        scene = sample_scene(rng, "simple", objects=2)
        (first_x, first_y), (second_x, second_y) = scene.centres
        margin = {"left": second_x - first_x, "right": first_x - second_x}
        margin |= {"above": second_y - first_y, "below": first_y - second_y}
        assert margin[scene.relation] > 0.3
        words = caption(scene, rng, full=True, template=0).text()
        assert re.search(
            {"left": "to the left of", "right": "to the right of"}.get(scene.relation, scene.relation), words
        )


def test_trees_of_the_parser_read_back_and_their_leaves_are_the_text():
    for tree in sample_trees(300, seed=0):
        assert " ".join(word for _, word in leaves(tree)) == text(tree)
        root, (child,) = read_tree(bracketed(tree))
        assert root == "ROOT"
        assert untupled(child) == untupled(tree)


def test_trees_are_distinct_and_a_function_of_the_seed():
    trees = sample_trees(200, seed=3)
    assert len({text(tree) for tree in trees}) == 200
    assert trees == sample_trees(200, seed=3)
    assert trees[:100] == sample_trees(100, seed=3)
    assert trees != sample_trees(200, seed=4)


def test_trees_keep_to_the_classes_of_the_dataset():
    words = {word for tree in sample_trees(200, seed=0, classes=5) for word in text(tree).split()}
    assert words & set(CLASSES) <= set(list(CLASSES)[:5])


def test_a_caption_of_a_cluttered_scene_leaves_a_group_out():
    rng = random.Random(2)
    for _ in range(200):
        scene = sample_scene(rng, "clutter")
        groups = mention(scene, rng, least=2)
        assert 1 <= len(set(groups)) == len(groups) < len(scene.groups)
