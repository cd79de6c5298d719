import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from vlalign.annotate.phrases import annotation as phrases
from vlalign.annotate.phrases.annotation import ParsedCaption, ParseMemory, PhraseFile, parse_split, read_phrases
from vlalign.annotate.phrases.parser import CaptionParser
from vlalign.annotate.phrases.trees import Parse, Word
from vlalign.data.samples import Sample, encode_png
from vlalign.data.shards.index import index_path, write_index
from vlalign.data.shards.manifest import write_split
from vlalign.data.shards.split import read_manifest
from vlalign.data.shards.tar import batched
from vlalign.errors import VlalignError
from vlalign.records import read_record, stamp, write_record

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

    def counted(self, captions, **options):
        seen.extend(captions)
        return parse(self, captions, **options)

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


def test_a_sample_is_found_in_the_file_of_its_shard(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path / "phrases")
    found = read_phrases(tmp_path / "phrases")
    for shard, keys in (("000000", "ab"), ("000001", "cd"), ("000002", "e")):
        file = PhraseFile(tmp_path / "phrases" / f"{shard}.arrow")
        assert [list(captions) for captions in file] == [found[key] for key in keys]


def test_skips_are_counted_and_named_by_cause(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path / "phrases")
    manifest = read_record(tmp_path / "phrases/manifest.json")
    assert (manifest["counts"]["captions"], manifest["counts"]["cut"]) == (7, 0)
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


def same_files(first, second):
    names = {path.name for path in first.iterdir() if path.is_file()}
    assert names == {path.name for path in second.iterdir() if path.is_file()}
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


# Parses a split, and stops for ever before the third file gets its name.
STOPS = """
import os, sys, time
from vlalign import files
from vlalign.annotate.phrases.annotation import parse_split
replace = os.replace

def stop(source, target):
    if str(target).endswith("000002.arrow"):
        print("now", flush=True)
        time.sleep(600)
    replace(source, target)

files.os.replace = stop
parse_split(*sys.argv[1:], max_words=20, max_skipped=50.0)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_without_parsing_finished_shards(split, model_dir, tmp_path, count_parsed):
    output = tmp_path / "phrases"
    run(split, model_dir, tmp_path / "whole")
    command = [sys.executable, "-c", STOPS, str(split), str(model_dir), str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "now\n", process.stderr.read()
        os.kill(process.pid, signal.SIGKILL)
    finished = {path: path.stat() for path in output.glob("*.arrow")}
    assert sorted(path.name for path in finished) == ["000000.arrow", "000001.arrow"]
    assert len(list(output.glob(".*.tmp"))) == 1
    with pytest.raises(VlalignError, match=r"manifest\.json does not exist"):
        read_phrases(output)
    count_parsed.clear()
    run(split, model_dir, output)
    assert count_parsed == ["a green tree on a blue background."]
    for path, before in finished.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert same_files(tmp_path / "whole", output)
    assert list(output.glob(".*")) == []


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_parts_and_a_gathering_run_write_what_one_run_writes(split, model_dir, tmp_path, monkeypatch, parts):
    run(split, model_dir, tmp_path / "whole")
    output = tmp_path / "phrases"
    for part in reversed(range(parts)):
        run(split, model_dir, output, part=f"{part}-of-{parts}")
    assert not (output / "manifest.json").exists()
    assert len(list((output / "parts").iterdir())) == parts
    monkeypatch.setattr(phrases, "CaptionParser", None)
    run(split, model_dir, output)
    assert same_files(tmp_path / "whole", output)


def test_a_part_has_every_nth_shard_and_says_what_is_in_them(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path, part="0-of-2")
    assert sorted(path.name for path in tmp_path.glob("*.arrow")) == ["000000.arrow", "000002.arrow"]
    report = json.loads((tmp_path / "parts/0-of-2.json").read_text())
    assert [shard["name"] for shard in report["shards"]] == ["000000.arrow", "000002.arrow"]
    assert (report["counts"]["captions"], report["skipped"]) == (4, {})
    run(split, model_dir, tmp_path, part="1-of-2", max_skipped=0.0)
    report = json.loads((tmp_path / "parts/1-of-2.json").read_text())
    assert report["skipped"]["empty"] == {"count": 2, "first": ["c#0", "d#0"]}


def test_a_part_leaves_the_manifest_alone_and_goes_on_where_it_stopped(split, model_dir, tmp_path, count_parsed):
    run(split, model_dir, tmp_path)
    manifest = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / "000002.arrow").unlink()
    count_parsed.clear()
    run(split, model_dir, tmp_path, part="0-of-2")
    assert count_parsed == ["a green tree on a blue background."]
    assert (tmp_path / "manifest.json").read_bytes() == manifest


def test_files_of_another_version_are_made_again(split, model_dir, tmp_path, monkeypatch, count_parsed):
    run(split, model_dir, tmp_path)
    count_parsed.clear()
    monkeypatch.setattr(phrases, "VERSION", phrases.VERSION + 1)
    run(split, model_dir, tmp_path)
    assert "a green tree on a blue background." in count_parsed


def test_equal_captions_of_all_shards_are_parsed_once(model_dir, tmp_path, count_parsed):
    captions = {f"k{number}": ("a dog", "a cat" if number % 2 else "A  DOG") for number in range(6)}
    run(write(tmp_path / "split", captions), model_dir, tmp_path / "phrases")
    assert count_parsed == ["a dog", "a cat"]
    found = read_phrases(tmp_path / "phrases")
    assert {(entry.caption, entry.words) for entries in found.values() for entry in entries} == {
        (parsed.caption, parsed.words) for parsed in found["k1"]
    }


def test_the_memory_of_captions_is_bounded_and_forgets_the_oldest():
    asked = []

    def parse(captions, done):
        asked.append(captions)
        done(len(captions))
        return [Parse((Word(0, len(caption), caption, "X"),)) for caption in captions]

    memory, done = ParseMemory(parse, size=2), []
    for captions in ("aab", "ca", "bad", "d"):
        found = memory(list(captions), done=done.append)
        assert [parse.ends.tolist() for parse in found] == [[1]] * len(captions)
    assert asked == [["a", "b"], ["c"], ["b", "d"]]
    assert sum(done) == 2 + 2 + 3 + 1


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


@pytest.mark.parametrize("damage", [b"", b"PAR1 not really PAR1", b"ARROW1 nor Arrow"])
def test_a_broken_file_is_made_again(split, model_dir, tmp_path, damage):
    run(split, model_dir, tmp_path)
    whole = (tmp_path / "000000.arrow").read_bytes()
    (tmp_path / "000000.arrow").write_bytes(damage)
    with pytest.raises(VlalignError, match=r"000000\.arrow is not the file"):
        read_phrases(tmp_path)
    run(split, model_dir, tmp_path)
    assert (tmp_path / "000000.arrow").read_bytes() == whole


def test_other_settings_parse_again(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path)
    run(split, model_dir, tmp_path, max_words=40)
    assert [parsed.skipped for parsed in read_phrases(tmp_path)["c"]] == ["empty", None]
    run(split, model_dir, tmp_path, long_captions="cut")
    assert [(parsed.skipped, parsed.cut) for parsed in read_phrases(tmp_path)["c"]] == [("empty", False), (None, True)]
    assert len(read_phrases(tmp_path)["c"][1].words) == 20
    assert read_manifest(tmp_path)["counts"]["cut"] == 1


def test_files_of_shards_that_are_gone_and_of_older_versions_are_removed(model_dir, tmp_path):
    run(write(tmp_path / "split", CAPTIONS), model_dir, tmp_path / "phrases")
    (tmp_path / "phrases/000000.parquet").write_bytes(b"of an older version")
    run(write(tmp_path / "split", CAPTIONS, shard_size=5), model_dir, tmp_path / "phrases")
    assert sorted(path.name for path in (tmp_path / "phrases").iterdir()) == ["000000.arrow", "manifest.json"]


def test_too_many_skips_are_an_error_that_names_causes_and_key(split, model_dir, tmp_path):
    expected = r"3 of 7 captions .*2 empty, first c#0; 1 too long, first c#1.* 10 % .*annotate\.parser\.max_skipped"
    with pytest.raises(VlalignError, match=expected):
        run(split, model_dir, tmp_path / "phrases", max_skipped=10.0)
    assert sorted(path.name for path in (tmp_path / "phrases").iterdir()) == [f"00000{n}.arrow" for n in range(3)]


def test_the_manifest_of_an_earlier_run_does_not_survive_a_failure(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path)
    with pytest.raises(VlalignError):
        run(split, model_dir, tmp_path, max_skipped=0.0)
    assert not (tmp_path / "manifest.json").exists()


def test_a_missing_index_is_an_error(split, model_dir, tmp_path):
    (split / "index" / "000001.arrow").unlink()
    with pytest.raises(VlalignError, match=r"000001\.arrow"):
        run(split, model_dir, tmp_path / "phrases")


def test_the_bar_counts_samples(monkeypatch, split, model_dir, tmp_path):
    advanced = []
    monkeypatch.setattr(phrases.Progress, "advance", lambda self, task, count: advanced.append(count))
    run(split, model_dir, tmp_path)
    assert sum(advanced) == pytest.approx(len(CAPTIONS))
    assert len(advanced) > 3, "it moves within a shard too"


@pytest.mark.slow
def test_reading_imports_no_parser(split, model_dir, tmp_path):
    run(split, model_dir, tmp_path)
    code = f"""
import sys
from vlalign.annotate.phrases.annotation import read_phrases
from vlalign.annotate.phrases.tokens import TokenMapper
assert len(read_phrases({str(tmp_path)!r})) == 5
assert not {{"stanza", "open_clip"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


STRANGE = {
    "emoji": "a 🐶 and a 👩‍👩‍👧‍👦 with 🇩🇪 flags",
    "html": "<b>a dog</b> &lt;img src=x&gt; &amp;amp; a cat<br/>",
    "url": "see https://www.example.com/a_b-c?d=e&f=%20g#h or mail a.b@c.org",
    "chinese": "一只红色的狗在草地上奔跑。",
    "right to left": "كلب أحمر \u202eabc\u202c שלום",
    "combining": "a\u0301 Z\u0351\u0357a\u0309l\u0321go\u0489 n\u0303",
    "control": "a\x00dog\x07 and\x1b[31m \x7fcat\u200b\ufeff\u2028end",
    "punctuation": "?!... ---- (((( ;;; \"'`",
    "parentheses": "(" * 40 + "a dog" + ")" * 40,
    "brackets": "-lrb- [ { -rrb- ( ] }",
    "quotes": "\"a dog's 'n' cat\u2019s\"",
    "surprise": "Ã©tÃ© â€œdogâ€\u009d \ufffd \U0010ffff",
}
LONG = {"many words": "dog " * 10_000, "long word": "x" * 100_000, "long": "(" * 200_000, "deep": "( " * 500}
NOTHING = {"nothing": "", "spaces": " \t ", "invisible": "\x00\x01"}


def write_unverified(folder, captions):
    """Shards of four captions that no verification would let pass."""
    shards = []
    for number, batch in enumerate(batched(captions.items(), 4)):
        shards.append({"name": f"{number}.tar", "samples": len(batch), "sha256": "", "limits": ""})
        write_index(index_path(folder, f"{number}.tar"), [{"key": key, "captions": [text]} for key, text in batch], {})
        shards[-1]["index"] = stamp(index_path(folder, f"{number}.tar"))
    write_record(folder / "manifest.json", {"shards": shards})


@pytest.mark.parametrize("long_captions", ["skip", "cut"])
def test_whatever_the_captions_are_each_has_a_row_with_its_cause(model_dir, tmp_path, long_captions):
    captions = {**STRANGE, **LONG, **NOTHING, "common": "a dog"}
    write_unverified(tmp_path / "split", captions)
    run(tmp_path / "split", model_dir, tmp_path / "phrases", max_words=90, long_captions=long_captions)
    found = {key: entry for key, (entry,) in read_phrases(tmp_path / "phrases").items()}
    assert list(found) == list(captions)
    for entry in found.values():
        assert all(entry.caption[word.start : word.end] == word.text != "" for word in entry.words)
        assert all(0 <= part.first < part.last <= len(entry.words) for part in entry.constituents)
    skips = {key: entry.skipped for key, entry in found.items() if entry.skipped}
    cut = {key for key, entry in found.items() if entry.cut}
    too_long = ["long word"] if long_captions == "cut" else list(LONG)
    assert skips == {**dict.fromkeys(too_long, "too long"), **dict.fromkeys(NOTHING, "empty")}
    assert cut == ({"many words", "long", "deep"} if long_captions == "cut" else set())
    manifest = read_manifest(tmp_path / "phrases")
    assert manifest["counts"]["captions"] == len(captions)
    assert manifest["counts"]["cut"] == len(cut)
    assert manifest["skipped"]["too long"]["first"] == [f"{key}#0" for key in too_long]
    assert manifest["skipped"]["empty"] == {"count": 3, "first": [f"{key}#0" for key in NOTHING]}


def test_a_caption_on_which_stanza_raises_is_a_row_like_others(model_dir, tmp_path, monkeypatch):
    load = phrases.CaptionParser

    def fragile(*arguments, **options):
        parser = load(*arguments, **options)
        pipeline = parser.pipeline

        def fail(sentences):
            if any("bomb" in sentence for sentence in sentences):
                raise IndexError("list index out of range")
            return pipeline(sentences)

        parser.pipeline = fail
        return parser

    captions = {"a": ("a dog", "a bomb"), "b": ("a cat",), "c": ("a bomb", "a red bomb")}
    run(write(tmp_path / "split", captions), model_dir, tmp_path / "whole", max_skipped=0.0)
    monkeypatch.setattr(phrases, "CaptionParser", fragile)
    run(tmp_path / "split", model_dir, tmp_path / "phrases", max_skipped=60.0)
    whole, found = read_phrases(tmp_path / "whole"), read_phrases(tmp_path / "phrases")
    for key, entries in found.items():
        for entry, expected in zip(entries, whole[key], strict=True):
            if "bomb" in entry.caption:
                expected = ParsedCaption(key, entry.caption_index, entry.caption, skipped="failed")
            assert entry == expected
    manifest = read_manifest(tmp_path / "phrases")
    assert manifest["skipped"] == {"failed": {"count": 3, "first": ["a#1", "c#0", "c#1"]}}
    with pytest.raises(VlalignError, match=r"3 of 5 captions .*3 failed, first a#1.*What was parsed is kept"):
        run(tmp_path / "split", model_dir, tmp_path / "phrases", max_skipped=50.0)
