from types import SimpleNamespace

import pytest
import torch
from stanza.models.constituency.parse_tree import Tree

from vlalign.annotate.phrases.parser import CaptionParser, Constituent, Parse, attempt
from vlalign.errors import VlalignError


@pytest.fixture(scope="module")
def parser(model_dir):
    return CaptionParser(model_dir, max_words=20, batch_size=4)


@pytest.fixture
def cutter(parser, monkeypatch):
    """The same, which cuts what is too long."""
    monkeypatch.setattr(parser, "long_captions", "cut")
    return parser


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
        tree = Tree("ROOT", Tree("NP", [Tree("NN", Tree(word)) for word in words]))
        return SimpleNamespace(constituency=tree, words=[SimpleNamespace(xpos="NN", upos="NOUN") for _ in words])


def with_pipeline(pipeline, *, max_words=20, call_size=20):
    parser = CaptionParser.__new__(CaptionParser)
    parser.pipeline, parser.tokenizer, parser.long_captions = pipeline, None, "skip"
    parser.max_words, parser.call_size, parser.longest = max_words, call_size, 10_000
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
    parses = parser.parse(strange)
    assert [parse.skipped for parse in parses] == [None] * len(strange)
    assert all(parse.words for parse in parses)


def test_what_cannot_be_parsed_has_a_cause(parser):
    captions = ["", "a dog", "dog " * 21, "x" * 101, "dog " * 20]
    assert [parse.skipped for parse in parser.parse(captions)] == ["empty", None, "too long", "too long", None]
    assert parser.parse([""]) == [Parse((), (), "empty")]


def test_order_and_batches_do_not_matter(model_dir, parser):
    captions = ["a red dog", "two cats on a blue background", "a dog and a cat", "there is a cat", "a green tree"]
    together = CaptionParser(model_dir, batch_size=200).parse(captions)
    assert parser.parse(captions) == together
    assert parser.parse(captions[::-1]) == together[::-1]


def test_equal_captions_are_parsed_once():
    pipeline = FakePipeline()
    captions = ["a dog", "a cat", "a dog", "a dog", "a bus", "a cat"] * 3
    parses = with_pipeline(pipeline).parse(captions)
    assert pipeline.calls == [[["a", "dog"], ["a", "cat"], ["a", "bus"]]]
    assert [" ".join(word.text for word in parse.words) for parse in parses] == captions


def test_one_bad_caption_does_not_take_its_batch_along(caplog):
    parses = with_pipeline(FakePipeline(poison="bomb")).parse(["a dog", "a bomb", "a cat", "a bus"])
    assert [parse.skipped for parse in parses] == [None, "failed", None, None]
    assert "a bomb" in caplog.text


def test_a_tree_of_another_sentence_is_not_believed():
    parses = with_pipeline(FakePipeline(mixed="odd")).parse(["a dog", "an odd cat"])
    assert [parse.skipped for parse in parses] == [None, "failed"]


def test_a_caption_on_which_the_parser_goes_on_for_ever_is_skipped_alone(parser, monkeypatch, caplog):
    """Stanza gives such a sentence up, returns the trees of the others, and no word of which they are."""
    model = parser.pipeline.processors["constituency"]._model
    apply = model.bulk_apply

    def gives_up(states, transitions, fail=False):
        return [s._replace(broken="endless" in words(s)) for s in apply(states, transitions, fail)]

    def words(state):
        return [node.value.children[0].label for node in state.word_queue if node.value]

    captions = ["a red dog", "an endless dog", "two cats", "a dog and a cat", "a green tree", "a dog. a cat."]
    expected = parser.parse(captions)
    monkeypatch.setattr(model, "bulk_apply", gives_up)
    parses = parser.parse(captions)
    assert [parse.skipped for parse in parses] == [None, "failed", None, None, None, None]
    assert parses[2:] == expected[2:]
    assert "an endless dog" in caplog.text


def test_captions_of_like_length_are_parsed_together():
    pipeline = FakePipeline()
    captions = ["a b c d e", "a", "a b c d", "a b", "b", "a b c"]
    assert [len(parse.words) for parse in with_pipeline(pipeline, call_size=2).parse(captions)] == [5, 1, 4, 2, 1, 3]
    assert [[len(sentence) for sentence in call] for call in pipeline.calls] == [[1, 1], [2, 3], [4, 5]]


def test_what_is_done_is_told_in_between():
    done = []
    with_pipeline(FakePipeline(), call_size=2).parse(["a", "b", "", "a", "c", "d e"], done=done.append)
    assert done == [1, 2, 2]


def test_long_captions_are_cut_after_the_last_whole_sentence_that_fits(cutter):
    captions = ["a dog. two cats. " + "dog " * 20, "dog " * 21, "a dog", "x" * 101, "a dog " + "x" * 101]
    first, second, whole, unparsable, before = cutter.parse(captions)
    assert [word.text for word in first.words] == ["a", "dog", ".", "two", "cats", "."]
    assert len(second.words) == 20
    assert max(node.last for node in second.constituents) <= 20
    assert [parse.cut for parse in (first, second, whole, before)] == [True, True, False, True]
    assert unparsable == Parse(skipped="too long")
    assert [word.text for word in before.words] == ["a", "dog"]


def test_words_beyond_the_positions_that_files_hold_are_cut_off(model_dir):
    caption = "a dog " + "." * 65_600 + " a cat"
    skips, cuts = (CaptionParser(model_dir, max_words=10**6, long_captions=policy) for policy in ("skip", "cut"))
    assert skips.parse([caption]) == [Parse(skipped="too long")]
    (parse,) = cuts.parse([caption])
    assert [word.text for word in parse.words] == ["a", "dog"]
    assert parse.cut
    assert cuts.parse(["x" * 70_000]) == [Parse(skipped="too long")]


def test_a_batch_that_fails_is_searched_in_parts():
    calls = []

    def run(captions):
        calls.append(len(captions))
        if "bad" in captions:
            raise ValueError("bad")
        return [caption.upper() for caption in captions]

    captions = [f"c{number}" for number in range(128)]
    captions[77] = "bad"
    found = attempt(captions, run)
    assert found[77] is None
    assert [f for f in found if f] == [caption.upper() for caption in captions if caption != "bad"]
    assert sum(calls) < 2.5 * 128, "most captions are parsed twice, none much more often"


def test_a_gpu_is_used_where_torch_has_one_and_refused_where_not(model_dir, parser):
    assert str(parser.pipeline.device) == ("cuda" if torch.cuda.is_available() else "cpu")
    assert str(CaptionParser(model_dir, device="cpu").pipeline.device) == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(VlalignError, match=r"annotate\.parser\.device is cuda, but torch finds no GPU"):
            CaptionParser(model_dir, device="cuda")
