import json
import shutil
from types import SimpleNamespace

import pytest

from vlalign.annotate.parser import CaptionParser, Constituent, Parse, load_pipeline, tree_constituents
from vlalign.errors import VlalignError


@pytest.fixture(scope="module")
def parser(model_dir):
    return CaptionParser(model_dir, max_words=20, batch_size=4)


def leaf(text):
    return SimpleNamespace(label=text, children=[], is_leaf=lambda: True, is_preterminal=lambda: False)


def node(label, *children):
    preterminal = len(children) == 1 and children[0].is_leaf()
    return SimpleNamespace(
        label=label,
        children=children,
        is_leaf=lambda: False,
        is_preterminal=lambda: preterminal,
        leaf_labels=lambda: [label for child in children for label in labels(child)],
    )


def labels(tree):
    return [tree.label] if tree.is_leaf() else [label for child in tree.children for label in labels(child)]


class FakePipeline:
    """Makes every sentence one NP, and fails or misbehaves on demand."""

    def __init__(self, poison="", mixed=None):
        self.calls = []
        self.poison, self.mixed = poison, mixed

    def __call__(self, sentences):
        self.calls.append(sentences)
        if any(self.poison in sentence for sentence in sentences):
            raise RuntimeError("out of memory")
        if self.mixed and any(self.mixed in sentence for sentence in sentences):
            sentences = [["other"] * len(sentence) for sentence in sentences]
        return SimpleNamespace(sentences=[self.sentence(words) for words in sentences])

    @staticmethod
    def sentence(words):
        tree = node("ROOT", node("NP", *(node("NN", leaf(word)) for word in words)))
        return SimpleNamespace(constituency=tree, words=[SimpleNamespace(xpos="NN", upos="NOUN") for _ in words])


def with_pipeline(pipeline, *, max_words=20, batch_size=4):
    parser = CaptionParser.__new__(CaptionParser)
    parser.pipeline, parser.max_words, parser.batch_size = pipeline, max_words, batch_size
    return parser


def test_words_keep_their_places_in_the_caption(parser):
    caption = "a red dog, and two cats."
    (parse,) = parser.parse([caption])
    assert [word.text for word in parse.words] == ["a", "red", "dog", ",", "and", "two", "cats", "."]
    assert all(caption[word.start : word.end] == word.text for word in parse.words)
    assert [parse.words[index].tag for index in (0, 1, 2, 5)] == ["DT", "JJ", "NN", "CD"]


def test_constituents_are_nested_ranges_outer_first(parser):
    (parse,) = parser.parse(["a red dog above two cats"])
    assert parse.constituents[0].first == 0
    assert parse.constituents[0].last == len(parse.words)
    assert Constituent("NP", 0, 3) in parse.constituents
    assert all(0 <= node.first < node.last <= len(parse.words) for node in parse.constituents)
    assert "ROOT" not in {node.label for node in parse.constituents}


def test_a_caption_of_two_sentences_has_a_tree_for_each(parser):
    (parse,) = parser.parse(["a red dog. two cats."])
    assert not any(node.first < 4 < node.last for node in parse.constituents)
    assert {node.first for node in parse.constituents} >= {0, 4}


def test_strange_captions_never_raise(parser):
    strange = [
        "🐶",
        "( \" ) ' `",
        "犬 猫",
        "-lrb- ( -rrb-",
        "a" * 90,
        ". . .",
        "#\u200b",
        "root",
        "<unk> <pad>",
        "\\ / _",
    ]
    parses = list(parser.parse(strange))
    assert [parse.skipped for parse in parses] == [None] * len(strange)
    assert all(parse.words for parse in parses)


def test_what_cannot_be_parsed_has_a_cause(parser):
    captions = ["", "a dog", "dog " * 21, "x" * 101, "dog " * 20]
    assert [parse.skipped for parse in parser.parse(captions)] == ["empty", None, "too long", "too long", None]
    assert next(parser.parse([""])) == Parse((), (), "empty")


def test_order_and_batches_do_not_matter(model_dir, parser):
    captions = ["a red dog", "two cats on a blue background", "a dog and a cat", "there is a cat", "a green tree"]
    together = list(CaptionParser(model_dir, batch_size=200).parse(captions))
    assert list(parser.parse(captions)) == together
    assert list(parser.parse(captions[::-1])) == together[::-1]


def test_equal_captions_are_parsed_once():
    pipeline = FakePipeline()
    captions = ["a dog", "a cat", "a dog", "a dog", "a bus", "a cat"] * 3
    parses = list(with_pipeline(pipeline).parse(captions))
    assert pipeline.calls == [[["a", "dog"], ["a", "cat"], ["a", "bus"]]]
    assert [" ".join(word.text for word in parse.words) for parse in parses] == captions


def test_one_bad_caption_does_not_take_its_batch_along(caplog):
    parses = list(with_pipeline(FakePipeline(poison="bomb")).parse(["a dog", "a bomb", "a cat", "a bus"]))
    assert [parse.skipped for parse in parses] == [None, "failed", None, None]
    assert "a bomb" in caplog.text


def test_a_tree_of_another_sentence_is_not_believed():
    parses = list(with_pipeline(FakePipeline(mixed="odd")).parse(["a dog", "an odd cat"]))
    assert [parse.skipped for parse in parses] == [None, "failed"]


def test_tree_constituents_count_words_from_the_offset():
    tree = node("ROOT", node("S", node("NP", node("NN", leaf("dogs"))), node("VP", node("VBP", leaf("bark")))))
    assert tree_constituents(tree, offset=3) == [
        Constituent("S", 3, 5),
        Constituent("NP", 3, 4),
        Constituent("VP", 4, 5),
    ]


def test_loading_needs_no_network(model_dir, no_network):
    assert load_pipeline(model_dir)([["a", "dog"]]).sentences[0].words[0].xpos == "DT"


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(VlalignError, match=r"manifest\.json does not exist"):
        load_pipeline(tmp_path)


def test_a_changed_model_is_refused(model_dir, tmp_path):
    copy = tmp_path / "parser"
    shutil.copytree(model_dir, copy)
    model = copy / "en/pos/tiny.pt"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(VlalignError, match=r"pos/tiny\.pt is missing or is not the file"):
        load_pipeline(copy)


def test_a_folder_that_stanza_cannot_load_is_refused(model_dir, tmp_path):
    copy = tmp_path / "parser"
    shutil.copytree(model_dir, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["packages"]["constituency"] = "absent"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(VlalignError, match="cannot be loaded"):
        load_pipeline(copy)
