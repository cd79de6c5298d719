import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from vlalign.annotate import phrases
from vlalign.annotate.parser import CaptionParser
from vlalign.annotate.phrases import ParsedCaption, parse_split, read_phrases
from vlalign.data.samples import Sample, encode_png
from vlalign.data.splits import read_manifest, write_split
from vlalign.errors import VlalignError

CAPTIONS = {
    "a": ("A red  dog &amp; two cats", "a dog"),
    "b": ("a dog",),
    "c": ("&nbsp;", "dog " * 30),
    "d": (),
    "e": ("a green tree on a blue background.",),
}


def write(folder, captions, *, shard_size=2):
    picture = encode_png(np.zeros((4, 4, 3), np.uint8))
    samples = [Sample(key, picture, lines) for key, lines in captions.items()]
    write_split(folder, samples, shard_size=shard_size, source={"name": "test"})
    return folder


@pytest.fixture
def split(tmp_path):
    return write(tmp_path / "split", CAPTIONS)


@pytest.fixture
def count_parsed(monkeypatch):
    """Captions that were handed to the parser."""
    seen = []
    parse = CaptionParser.parse

    def counted(self, captions):
        seen.extend(captions)
        return parse(self, captions)

    monkeypatch.setattr(CaptionParser, "parse", counted)
    return seen


def run(split, model_dir, output, **options):
    parse_split(split, model_dir, output, **{"max_words": 20, "max_skipped": 50.0, **options})


def test_every_caption_is_found_again_by_key_and_index(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path / "phrases")
    found = read_phrases(tmp_path / "phrases")
    assert list(found) == list("abcde")
    assert [parsed.caption_index for parsed in found["a"]] == [0, 1]
    first = found["a"][0]
    assert first.caption == "a red dog & two cats"
    assert [word.text for word in first.words] == ["a", "red", "dog", "&", "two", "cats"]
    assert all(first.caption[word.start : word.end] == word.text for word in first.words)
    assert first.constituents
    assert found["a"][1].words == found["b"][0].words


def test_what_is_read_is_what_was_parsed(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path / "phrases")
    (parse,) = CaptionParser(model_dir).parse(["a green tree on a blue background."])
    expected = ParsedCaption("e", 0, "a green tree on a blue background.", parse.words, parse.constituents)
    assert read_phrases(tmp_path / "phrases")["e"] == [expected]


def test_files_also_hold_character_ranges(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path / "phrases")
    for row in pq.read_table(tmp_path / "phrases/000000.parquet").to_pylist():
        for part in row["constituents"]:
            inside = row["words"][part["first"] : part["last"]]
            assert (part["start"], part["end"]) == (inside[0]["start"], inside[-1]["end"])


def test_skips_are_counted_and_named_by_cause(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path / "phrases")
    manifest = json.loads((tmp_path / "phrases/manifest.json").read_text())
    assert manifest["counts"]["captions"] == 7
    assert manifest["skipped"] == {
        "empty": {"count": 2, "first": ["c#0", "d#0"]},
        "too long": {"count": 1, "first": ["c#1"]},
    }
    assert [shard["captions"] for shard in manifest["shards"]] == [3, 3, 1]
    found = read_phrases(tmp_path / "phrases")
    assert [parsed.skipped for parsed in found["c"]] == ["empty", "too long"]
    assert manifest["counts"]["constituents"] == sum(len(p.constituents) for parsed in found.values() for p in parsed)


def test_two_runs_write_the_same_bytes(split, model_dir, tmp_path):
    for name in ("first", "second"):
        run(split, model_dir, tmp_path / name)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_a_killed_run_goes_on_with_the_shards_that_are_missing(split, model_dir, tmp_path, monkeypatch, count_parsed):
    output = tmp_path / "phrases"
    run(split, model_dir, tmp_path / "whole")
    write_shard = phrases._write_shard

    def killed(path, rows, *, inputs):
        if path.name == "000001.parquet":
            raise KeyboardInterrupt
        write_shard(path, rows, inputs=inputs)

    with monkeypatch.context() as patch:
        patch.setattr(phrases, "_write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            run(split, model_dir, output)
    assert not (output / "manifest.json").exists()
    with pytest.raises(VlalignError, match=r"manifest\.json does not exist"):
        read_phrases(output)
    count_parsed.clear()
    run(split, model_dir, output)
    assert count_parsed == ["", "dog " * 29 + "dog", "", "a green tree on a blue background."]
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (output / path.name).read_bytes()


def test_nothing_is_parsed_or_loaded_twice(split, model_dir, tmp_path, monkeypatch):
    run(split, model_dir, tmp_path)
    monkeypatch.setattr(phrases, "CaptionParser", None)
    run(split, model_dir, tmp_path)


def test_a_shard_that_changed_is_parsed_again_and_the_others_are_not(model_dir, tmp_path, count_parsed):
    write(tmp_path / "split", CAPTIONS)
    run(tmp_path / "split", model_dir, tmp_path / "phrases")
    count_parsed.clear()
    write(tmp_path / "split", {**CAPTIONS, "e": ("a cat",)})
    run(tmp_path / "split", model_dir, tmp_path / "phrases")
    assert count_parsed == ["a cat"]
    assert read_phrases(tmp_path / "phrases")["e"][0].caption == "a cat"


@pytest.mark.parametrize("damage", [b"", b"PAR1 not really PAR1"])
def test_a_broken_file_is_made_again(split, model_dir, tmp_path, damage):
    run(split, model_dir, tmp_path)
    whole = (tmp_path / "000000.parquet").read_bytes()
    (tmp_path / "000000.parquet").write_bytes(damage)
    with pytest.raises(VlalignError, match=r"000000\.parquet cannot be read"):
        read_phrases(tmp_path)
    run(split, model_dir, tmp_path)
    assert (tmp_path / "000000.parquet").read_bytes() == whole


def test_another_word_limit_parses_again(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path)
    run(split, model_dir, tmp_path, max_words=40)
    assert [parsed.skipped for parsed in read_phrases(tmp_path)["c"]] == ["empty", None]


def test_files_of_shards_that_are_gone_are_removed(model_dir, tmp_path):
    run(write(tmp_path / "split", CAPTIONS), model_dir, tmp_path / "phrases")
    run(write(tmp_path / "split", CAPTIONS, shard_size=5), model_dir, tmp_path / "phrases")
    assert sorted(path.name for path in (tmp_path / "phrases").iterdir()) == ["000000.parquet", "manifest.json"]


def test_too_many_skips_are_an_error_that_names_causes_and_key(split, model_dir, tmp_path):
    expected = r"3 of 7 captions .*2 empty, first c#0; 1 too long, first c#1.* 10 % .*annotate\.parser\.max_skipped"
    with pytest.raises(VlalignError, match=expected):
        run(split, model_dir, tmp_path / "phrases", max_skipped=10.0)
    assert not (tmp_path / "phrases/manifest.json").exists()


def test_the_manifest_of_an_earlier_run_does_not_survive_a_failure(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path)
    with pytest.raises(VlalignError):
        run(split, model_dir, tmp_path, max_skipped=0.0)
    assert not (tmp_path / "manifest.json").exists()


def test_a_missing_shard_is_an_error(split, model_dir, tmp_path):
    (split / read_manifest(split)["shards"][1]["name"]).unlink()
    with pytest.raises(VlalignError, match=r"000001\.tar"):
        run(split, model_dir, tmp_path / "phrases")


def test_the_bar_counts_samples(monkeypatch, split, model_dir, tmp_path):
    advanced = []
    monkeypatch.setattr(phrases.Progress, "advance", lambda self, task, count: advanced.append(count))
    run(split, model_dir, tmp_path)
    assert sum(advanced) == len(CAPTIONS)


def test_reading_imports_no_parser(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path)
    code = f"""
import sys
from vlalign.annotate.phrases import read_phrases
from vlalign.annotate.tokens import TokenMapper
assert len(read_phrases({str(tmp_path)!r})) == 5
assert not {{"stanza", "open_clip"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
