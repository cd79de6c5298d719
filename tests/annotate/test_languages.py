"""Captions of languages other than English, whose words Stanza's own tokenizer finds."""

import pytest

from vlalign.annotate.phrases.annotation import parse_split, read_phrases
from vlalign.annotate.phrases.parser import CaptionParser
from vlalign.annotate.phrases.stanza_models import load_pipelines
from vlalign.data.samples import Sample
from vlalign.data.shards.manifest import write_split
from vlalign.errors import VlalignError
from vlalign.records import read_record, write_record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parser(german_dir):
    return CaptionParser(german_dir, max_words=12, batch_size=2)


def texts(parse):
    return [word.text for word in parse.words]


def check_places(caption, parse):
    ends = [place for word in parse.words for place in (word.start, word.end)]
    assert ends == sorted(ends)
    assert all(caption[word.start : word.end] == word.text != "" for word in parse.words)
    assert all(0 <= part.first < part.last <= len(parse.words) for part in parse.constituents)


def test_words_are_the_tokenizers_with_their_places_in_the_caption(parser):
    captions = ["ein roter hund mit dem ball.", "ein blauer  fisch. ein roter vogel"]
    first, second = parser.parse(captions)
    assert texts(first) == ["ein", "roter", "hund", "mit", "dem", "ball", "."]
    assert texts(second) == ["ein", "blauer", "fisch", ".", "ein", "roter", "vogel"]
    check_places(captions[0], first)
    check_places(captions[1], second)
    assert not any(node.first < 4 < node.last for node in second.constituents), "two sentences"


def test_the_first_word_of_a_contraction_owns_it(parser):
    caption = "ein roter hund zum baum"
    (parse,) = parser.parse([caption])
    assert texts(parse) == ["ein", "roter", "hund", "zum", "baum"]
    check_places(caption, parse)
    assert parse.constituents[0].last == 5


def test_words_of_a_contraction_that_are_parts_of_it_have_their_own_places(parser):
    captions = ["ein blauer fisch zum baum", "ein roter hund gehts gut"]
    caption, (_, parse) = captions[1], parser.parse(captions)
    assert texts(parse) == ["ein", "roter", "hund", "geht", "s", "gut"]
    check_places(caption, parse)


def test_captions_without_spaces_are_cut(parser):
    caption = "两只红色的房子。"
    (parse,) = parser.parse([caption])
    assert texts(parse) == ["两", "只", "红色", "的", "房子", "。"]
    check_places(caption, parse)


def test_order_and_batches_do_not_matter(german_dir, parser):
    captions = ["ein roter hund", "一只红色的狗", "ein blauer vogel im haus", "", "ein fisch. ein hund."]
    together = CaptionParser(german_dir, max_words=12, batch_size=100).parse(captions)
    assert parser.parse(captions) == together
    assert parser.parse(captions[::-1]) == together[::-1]


def test_strange_captions_never_raise(parser):
    strange = ["🐶", ".", "«»", "a\u0301\u0309", "\u202eabc", "http://a.b/c?d=e", "(((((", "\ufeff", "x" * 90, "\x85"]
    for caption, parse in zip(strange, parser.parse(strange), strict=True):
        check_places(caption, parse)
        assert parse.words or parse.skipped in {"empty", "too long", "failed"}
    assert parser.parse(["", " "])[0].skipped == "empty"


def test_long_captions_are_skipped_or_cut(german_dir, parser):
    sentences, words = "ein roter hund. " * 5, "ein hund zum " * 2000
    captions = [sentences, words, "x" * 70_000, "ein hund"]
    assert [parse.skipped for parse in parser.parse(captions)] == ["too long"] * 3 + [None]
    cutter = CaptionParser(german_dir, max_words=12, long_captions="cut")
    first, second, third, whole = cutter.parse(captions)
    assert texts(first) == ["ein", "roter", "hund", "."] * 3
    assert texts(second) == ["ein", "hund", "zum"] * 3, "of four words each"
    assert third.skipped == "too long"
    assert [parse.cut for parse in (first, second, whole)] == [True, True, False]


def test_a_caption_on_which_the_tokenizer_fails_is_skipped_alone(parser, monkeypatch):
    tokenizer = parser.tokenizer

    class Fragile:
        def bulk_process(self, captions):
            if any("bombe" in caption for caption in captions):
                raise IndexError("list index out of range")
            return tokenizer.bulk_process(captions)

    captions = ["ein roter hund", "eine bombe", "ein blauer fisch"]
    monkeypatch.setattr(parser, "tokenizer", Fragile())
    assert [parse.skipped for parse in parser.parse(captions)] == [None, "failed", None]


def test_splits_of_other_languages_are_parsed_like_english_ones(german_dir, tmp_path):
    captions = ("Ein roter Hund zum Baum.", "一只红色的狗")
    write_split(tmp_path / "split", [Sample("a", captions=captions)], source={}, needs=("captions",))
    parse_split(tmp_path / "split", german_dir, tmp_path / "phrases")
    (entries,) = read_phrases(tmp_path / "phrases").values()
    assert [texts(entry) for entry in entries] == [
        ["ein", "roter", "hund", "zum", "baum", "."],
        ["一", "只", "红色", "的", "狗"],
    ]
    assert read_record(tmp_path / "phrases/manifest.json")["parser"]["language"] == "de"


def test_the_tokenizer_needs_no_network(german_dir, no_network):
    assert load_pipelines(german_dir)[1].bulk_process(["ein hund"])[0].sentences


def test_a_folder_without_the_tokenizer_is_refused(german_dir, tmp_path):
    manifest = read_record(german_dir / "manifest.json")
    for path in german_dir.rglob("*.*"):
        if path.is_file():
            target = tmp_path / path.relative_to(german_dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    del manifest["packages"]["tokenize"]
    (tmp_path / "manifest.json").unlink()
    write_record(tmp_path / "manifest.json", manifest)
    with pytest.raises(VlalignError, match="there is no tokenize model"):
        load_pipelines(tmp_path)
