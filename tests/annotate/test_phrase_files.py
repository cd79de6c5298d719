import os
import pickle
import string
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlalign.annotate.phrases.phrase_files import (
    SCHEMA,
    PackedParse,
    PhraseFile,
    read_phrases,
    write_phrase_file,
)
from vlalign.annotate.phrases.trees import Constituent, Parse, Word
from vlalign.data.arrow import DIGEST, read_metadata
from vlalign.errors import VlalignError
from vlalign.records import stamp, write_record

CAPTION = "a red dog"
WORDS = (Word(0, 1, "a", "DT"), Word(2, 5, "red", "JJ"), Word(6, 9, "dog", "NN"))
DOG = Parse(WORDS, (Constituent("S", 0, 3), Constituent("NP", 0, 3)))
SAMPLES = {
    "k1": [(CAPTION, DOG), ("", Parse(skipped="empty"))],
    "k0": [("zwei hündchen 🐶", Parse((Word(0, 4, "zwei", "CARD"),), cut=True))],
    "k2": [],
    "a/b.c": [(CAPTION, DOG)],
}


def write(path, samples=SAMPLES, **metadata):
    rows = [(key, [(caption, PackedParse.of(parse)) for caption, parse in pairs]) for key, pairs in samples.items()]
    write_phrase_file(path, rows, metadata={name.encode(): value for name, value in metadata.items()})
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "000000.arrow")


def of_key(file, key):
    return file[file.keys.to_pylist().index(key)]


def parses(captions):
    return [(c.caption, Parse(c.words, c.constituents, c.skipped, c.cut)) for c in captions]


def test_every_sample_is_found_by_its_row(path):
    file = PhraseFile(path)
    assert len(file) == len(SAMPLES)
    for row, (key, expected) in enumerate(SAMPLES.items()):
        assert parses(file[row]) == parses(of_key(file, key)) == expected
        assert parses([file.caption(row, number) for number in range(file.count(row))]) == expected
        assert [(caption.key, caption.caption_index) for caption in file[row]] == [
            (key, number) for number in range(len(expected))
        ]
    assert file.keys.to_pylist() == list(SAMPLES)
    assert parses(file[-1]) == SAMPLES["a/b.c"]
    assert [parses(captions) for captions in file] == list(SAMPLES.values())


def test_samples_that_are_not_there_are_errors(path):
    file = PhraseFile(path)
    with pytest.raises(IndexError):
        file[4]


def test_only_the_row_that_is_asked_for_is_read(path):
    content = path.read_bytes()
    assert content.count("zwei hündchen".encode()) == 1
    path.write_bytes(content.replace("zwei hündchen".encode(), b"zwei h\xff\xffndchen"))
    file = PhraseFile(path, stamp(path))
    assert parses(of_key(file, "k1")) == SAMPLES["k1"]
    with pytest.raises(UnicodeDecodeError):
        of_key(file, "k0")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
def test_opening_copies_nothing_and_keeps_no_file_open(tmp_path):
    write(tmp_path / "x.arrow", {f"k{number}": [(CAPTION, DOG)] for number in range(2000)})
    files, memory = len(os.listdir("/proc/self/fd")), pa.total_allocated_bytes()
    opened = [PhraseFile(tmp_path / "x.arrow") for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) == files
    assert pa.total_allocated_bytes() - memory < (tmp_path / "x.arrow").stat().st_size
    assert parses(of_key(opened[-1], "k1999")) == [(CAPTION, DOG)]


def test_a_reader_travels_to_other_processes(path):
    assert parses(of_key(pickle.loads(pickle.dumps(PhraseFile(path))), "k1")) == SAMPLES["k1"]


def test_equal_samples_give_equal_bytes(tmp_path, path):
    assert write(tmp_path / "again.arrow").read_bytes() == path.read_bytes()


def test_files_can_be_read_by_others(path):
    with pa.ipc.open_file(path) as reader:
        assert reader.schema.equals(SCHEMA)
        (row, *_) = reader.read_all().to_pylist()
    first = row["captions"][0]
    assert (row["key"], first["caption"], first["skipped"], first["cut"]) == ("k1", CAPTION, None, False)
    assert first["words"][1] == {"start": 2, "end": 5, "tag": "JJ"}
    assert first["constituents"][0] == {"label": "S", "first": 0, "last": 3}


def test_a_file_may_be_empty(tmp_path):
    file = PhraseFile(write(tmp_path / "x.arrow", {}))
    assert list(file) == []
    with pytest.raises(IndexError):
        file[0]


def test_metadata_stay_with_the_file(tmp_path, path):
    assert read_metadata(write(tmp_path / "x.arrow", inputs=b"abc"))[b"inputs"] == b"abc"
    assert set(read_metadata(path)) == {DIGEST}


def test_all_of_a_folder_is_read_shard_by_shard(tmp_path):
    names = ["b.arrow", "a.arrow"]
    write(tmp_path / names[0], {"k1": SAMPLES["k1"]})
    write(tmp_path / names[1], {"k0": SAMPLES["k0"], "k2": []})
    write_record(tmp_path / "manifest.json", {"shards": [{"name": name, **stamp(tmp_path / name)} for name in names]})
    found = read_phrases(tmp_path)
    expected = {"k1": SAMPLES["k1"], "k0": SAMPLES["k0"], "k2": []}
    assert {key: parses(captions) for key, captions in found.items()} == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize("damage", ["missing", "empty", "short", "other", "parquet"])
def test_a_broken_file_is_named_with_the_remedy(path, damage):
    content = path.read_bytes()
    path.unlink()
    if damage == "parquet":
        pq.write_table(pa.table({"key": ["k"]}), path)
    elif damage == "other":
        with pa.ipc.new_file(str(path), pa.schema({"key": pa.string()})) as writer:
            writer.write_batch(pa.record_batch({"key": ["k"]}))
    elif damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[:-100])
    with pytest.raises(VlalignError, match=r"000000\.arrow cannot be read .*delete .*manifest\.json"):
        PhraseFile(path)


@st.composite
def captions(draw):
    """A caption with a parse whose numbers are as large as may be."""
    text = draw(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    names = st.text(alphabet=string.ascii_uppercase + "-$,猫", min_size=1, max_size=6)
    pairs = zip(places[::2], places[1::2], strict=False)
    words = tuple(Word(start, end, text[start:end], draw(names)) for start, end in pairs)
    ends = st.lists(st.tuples(names, st.integers(0, 65_534)), max_size=5)
    parts = tuple(Constituent(label, first, draw(st.integers(first + 1, 65_535))) for label, first in draw(ends))
    return text, Parse(words, parts, draw(st.sampled_from([None, "too long", "failed"])), draw(st.booleans()))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(alphabet="abc/.é", max_size=5), st.lists(captions(), max_size=4), max_size=5))
def test_what_is_read_is_what_was_written(tmp_path, samples):
    file = PhraseFile(write(tmp_path / "x.arrow", samples))
    assert {key: parses(of_key(file, key)) for key in samples} == samples


def test_a_key_of_two_shards_is_an_error(tmp_path):
    for name in ("a.arrow", "b.arrow"):
        write(tmp_path / name, {"k1": SAMPLES["k1"]})
    write_record(
        tmp_path / "manifest.json",
        {"shards": [{"name": name, **stamp(tmp_path / name)} for name in ("a.arrow", "b.arrow")]},
    )
    with pytest.raises(VlalignError, match=r"two samples of .* have the key 'k1'"):
        read_phrases(tmp_path)
