import json

import numpy as np
import pytest
import webdataset

from vlalign.data.shards import (
    Sample,
    decode_image,
    decode_instances,
    encode_png,
    read_manifest,
    read_split,
    write_split,
)
from vlalign.errors import VlalignError
from vlalign.files import write_json


def picture(seed, size=(6, 9)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def samples(count=5):
    for index in range(count):
        labels = np.full((6, 9), index % 3, np.uint8)
        yield Sample(
            key=f"{index:05d}",
            image=encode_png(picture(index)),
            captions=(f"a dog {index}", "a café & a 犬"),
            meta={"stratum": "even" if index % 2 == 0 else "odd", "phrases": []},
            instances=encode_png(labels),
        )
    yield Sample(key="labelled", image=encode_png(picture(99)), label=3)


def write(folder, **options):
    write_split(folder, samples(), source={"name": "made up"}, **options)
    return folder


def test_samples_come_back_as_they_were(tmp_path):
    assert list(read_split(write(tmp_path, shard_size=2))) == list(samples())


def test_pictures_and_label_maps_come_back_exactly(tmp_path):
    first = next(read_split(write(tmp_path)))
    assert np.array_equal(np.asarray(decode_image(first.image)), picture(0))
    assert np.array_equal(decode_instances(first.instances), np.zeros((6, 9), np.uint8))
    assert first.stratum == "even"


def test_shards_hold_at_most_shard_size_samples(tmp_path):
    manifest = read_manifest(write(tmp_path, shard_size=4))
    assert [(shard["name"], shard["samples"]) for shard in manifest["shards"]] == [("000000.tar", 4), ("000001.tar", 2)]
    assert manifest["samples"] == 6
    assert manifest["source"] == {"name": "made up"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.tar", "000001.tar", "manifest.json"]


def test_shards_can_be_named_as_clip_benchmark_wants_them(tmp_path):
    write(tmp_path, shard_name="{}.tar")
    assert (tmp_path / "0.tar").is_file()


def test_equal_samples_give_equal_bytes(tmp_path):
    for path in write(tmp_path / "a", shard_size=2).iterdir():
        assert path.read_bytes() == (write(tmp_path / "b", shard_size=2) / path.name).read_bytes()


def test_an_empty_split_has_a_manifest(tmp_path):
    write_split(tmp_path, [], source={})
    assert list(read_split(tmp_path)) == []


def test_webdataset_reads_the_shards(tmp_path):
    write(tmp_path)
    theirs = list(webdataset.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False))
    for ours, other in zip(samples(), theirs, strict=True):
        assert other["__key__"] == ours.key
        assert {suffix: other[suffix] for suffix in ours.members()} == ours.members()
    decoded = next(iter(webdataset.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False).decode("rgb8")))
    assert np.array_equal(decoded["png"], picture(0))
    assert decoded["json"]["stratum"] == "even"
    assert decoded["txt"] == "a dog 0\na café & a 犬"


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_pictures_of_other_kinds_are_read(tmp_path, suffix):
    with webdataset.TarWriter(str(tmp_path / "000000.tar")) as writer:
        writer.write({"__key__": "0", suffix: b"picture", "txt": "a dog", "json": {"url": "somewhere"}})
    size = (tmp_path / "000000.tar").stat().st_size
    write_json(tmp_path / "manifest.json", {"shards": [{"name": "000000.tar", "bytes": size}]})
    (sample,) = read_split(tmp_path)
    assert (sample.image, sample.captions, sample.meta) == (b"picture", ("a dog",), {"url": "somewhere"})


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(VlalignError, match=r"manifest\.json does not exist"):
        list(read_split(tmp_path))


def test_a_missing_shard_is_named(tmp_path):
    (write(tmp_path) / "000000.tar").unlink()
    with pytest.raises(VlalignError, match=r"000000\.tar .*missing; delete"):
        list(read_split(tmp_path))


def test_a_shard_of_another_size_is_named(tmp_path):
    with open(write(tmp_path) / "000000.tar", "ab") as stream:
        stream.write(b"\0")
    with pytest.raises(VlalignError, match=r"000000\.tar has \d+ bytes, its manifest says \d+"):
        list(read_split(tmp_path))


def truncate(folder, keep):
    path = write(folder) / "000000.tar"
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize("keep", [0, 100, 700, 1200])
def test_a_truncated_shard_is_named(tmp_path, keep):
    truncate(tmp_path, keep)
    with pytest.raises(VlalignError, match=rf"000000\.tar has {keep} bytes, its manifest says"):
        list(read_split(tmp_path))


@pytest.mark.parametrize("keep", [0, 100, 700])
def test_a_shard_that_was_truncated_before_its_manifest_was_written_is_named(tmp_path, keep):
    truncate(tmp_path, keep)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["shards"][0]["bytes"] = keep
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(VlalignError, match=r"000000\.tar is not a readable tar file"):
        list(read_split(tmp_path))


def test_bytes_that_are_no_picture_are_an_error():
    with pytest.raises(VlalignError, match="cannot be decoded"):
        decode_image(b"GIF8")
