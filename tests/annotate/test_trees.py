from types import SimpleNamespace

import pytest
from stanza.models.constituency.parse_tree import Tree
from stanza.models.constituency.tree_reader import read_trees

from vlalign.annotate.phrases.trees import Constituent, Word, joined, tree_constituents
from vlalign.annotate.phrases.words import Cut, cut_english


def sentence(bracketed):
    (tree,) = read_trees(bracketed)
    words = [SimpleNamespace(xpos=node.label, upos=None) for node in tree.yield_preterminals()]
    return SimpleNamespace(constituency=tree, words=words)


def test_constituents_are_counted_from_the_offset_outer_first():
    (tree,) = read_trees("(ROOT (S (NP (NN dogs)) (VP (VBP bark) (ADVP (RB loudly)))))")
    assert tree_constituents(tree, offset=3) == [
        Constituent("S", 3, 6),
        Constituent("NP", 3, 4),
        Constituent("VP", 4, 6),
        Constituent("ADVP", 5, 6),
    ]


@pytest.mark.parametrize("root", ["ROOT", "TOP", "VROOT"])
def test_the_root_is_no_constituent_whatever_its_name(root):
    (tree,) = read_trees(f"({root} (NP (NN dogs)))")
    assert tree_constituents(tree) == [Constituent("NP", 0, 1)]


def test_trees_may_be_deeper_than_recursion_goes():
    tree = Tree("NN", Tree("dog"))
    for _ in range(5000):
        tree = Tree("NP", tree)
    assert tree_constituents(Tree("ROOT", tree)) == [Constituent("NP", 0, 1)] * 5000


def test_sentences_are_joined_with_their_words_in_the_caption():
    caption = "dogs bark. cats"
    sentences = [sentence("(ROOT (S (NP (NNS dogs)) (VP (VBP bark)) (. .)))"), sentence("(ROOT (NP (NNS cats)))")]
    parse = joined(caption, cut_english(caption), sentences)
    assert parse.words[1:3] == (Word(5, 9, "bark", "VBP"), Word(9, 10, ".", "."))
    assert parse.constituents[0] == Constituent("S", 0, 3)
    assert parse.constituents[-1] == Constituent("NP", 3, 4)


def test_labels_and_tags_of_other_treebanks_are_taken_as_they_are():
    caption = "一只狗"
    cut = Cut(["一", "只", "狗"], [(0, 1), (1, 2), (2, 3)], [(0, 3)])
    parse = joined(caption, cut, [sentence("(ROOT (NP-SBJ (QP (CD 一) (CLP (M 只))) (NP (NN 狗))))")])
    assert [node.label for node in parse.constituents] == ["NP-SBJ", "QP", "CLP", "NP"]
    assert [word.tag for word in parse.words] == ["CD", "M", "NN"]


def test_words_without_characters_leave_the_tree_and_take_their_constituents_along():
    """zum is zu and dem, and the tree has both."""
    cut = Cut(["hund", "zu", "dem", "baum"], [(0, 4), (5, 8), None, (9, 13)], [(0, 4)])
    tree = "(ROOT (NP (NN hund) (PP (APPR zu) (NP (DP (ART dem)) (NN baum)))))"
    parse = joined("hund zum baum", cut, [sentence(tree)])
    assert parse.words == (Word(0, 4, "hund", "NN"), Word(5, 8, "zum", "APPR"), Word(9, 13, "baum", "NN"))
    assert parse.constituents == (Constituent("NP", 0, 3), Constituent("PP", 1, 3), Constituent("NP", 2, 3))


def test_the_tree_of_another_sentence_is_refused():
    with pytest.raises(ValueError, match="tree of another sentence"):
        joined("dogs", cut_english("dogs"), [sentence("(ROOT (NP (NNS cats)))")])
