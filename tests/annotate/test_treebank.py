from collections import Counter

import pytest

from vlalign.annotate.phrases.treebank import bracket_f1, brackets, split_trees, write_brackets, write_conllu
from vlalign.data.scenes.grammar import sample_trees, text
from vlalign.errors import VlalignError

TREE = ("NP", [("NP", [("DT", "a"), ("NN", "dog")]), ("PP", [("IN", "on"), ("NP", [("NNS", "mats")])])])


def test_brackets_are_labelled_word_ranges_without_the_tags():
    assert brackets(TREE) == Counter({("NP", 0, 4): 1, ("NP", 0, 2): 1, ("PP", 2, 4): 1, ("NP", 3, 4): 1})


def test_a_unary_chain_counts_every_bracket():
    assert brackets(("NP", [("NP", [("NN", "dog")])])) == Counter({("NP", 0, 1): 2})


def test_f1_is_in_percent_and_counts_all_brackets_together():
    gold = Counter({("NP", 0, 4): 1, ("NP", 0, 2): 1, ("PP", 2, 4): 1})
    found = Counter({("NP", 0, 4): 1, ("VP", 0, 2): 1})
    assert bracket_f1([(gold, gold)]) == 100.0
    assert bracket_f1([(gold, found)]) == pytest.approx(2 * 1 / (3 + 2) * 100)
    assert bracket_f1([(gold, found), (gold, gold)]) == pytest.approx(2 * 4 / (5 + 6) * 100)
    assert bracket_f1([]) == 0.0


def test_files_hold_one_tree_or_sentence_each(tmp_path):
    write_brackets(tmp_path / "trees.mrg", [TREE, TREE])
    write_conllu(tmp_path / "words.conllu", [TREE])
    line = "(ROOT (NP (NP (DT a) (NN dog)) (PP (IN on) (NP (NNS mats)))))\n"
    assert (tmp_path / "trees.mrg").read_text() == 2 * line
    rows = (tmp_path / "words.conllu").read_text().splitlines()
    assert rows[0] == "1\ta\t_\tDET\tDT\t_\t0\troot\t_\t_"
    assert rows[1] == "2\tdog\t_\tNOUN\tNN\t_\t1\tdep\t_\t_"
    assert len(rows) == 5
    assert rows[4] == ""


def test_no_tree_is_in_two_parts_and_none_is_lost():
    trees = sample_trees(120, seed=0)
    treebank = split_trees(trees, seed=0)
    parts = [{text(tree) for tree in part} for part in (treebank.train, treebank.development, treebank.held_out)]
    assert [len(part) for part in parts] == [90, 10, 20]
    assert set.union(*parts) == {text(tree) for tree in trees}


def test_the_split_depends_on_the_seed_alone():
    trees = sample_trees(60, seed=0)
    assert split_trees(trees, seed=1) == split_trees(trees, seed=1) != split_trees(trees, seed=2)


def test_too_few_trees_name_the_key():
    with pytest.raises(VlalignError, match=r"annotate\.parser\.trees is 3"):
        split_trees([TREE] * 3, seed=0)
