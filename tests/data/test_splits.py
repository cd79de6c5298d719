import io

import numpy as np
import pytest
import webdataset
from PIL import Image

from vlalign.data.samples import Sample, decode_image, decode_instances, encode_png
from vlalign.data.shards.manifest import verify_shards, verify_split, write_manifest, write_split
from vlalign.data.shards.split import Split, read_manifest, read_split
from vlalign.data.shards.tar import write_shard
from vlalign.errors import VlalignError
from vlalign.params import VerifyParams
from vlalign.records import write_record

LIMITS = VerifyParams()
NOTED = {"count": 1, "first": ["y"]}


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.tar", "000001.tar", "index", "manifest.json"]


def test_shards_can_be_named_as_clip_benchmark_wants_them(tmp_path):
    write(tmp_path, shard_name="{}.tar")
    assert (tmp_path / "0.tar").is_file()


def test_equal_samples_give_equal_bytes(tmp_path):
    one, other = (write(tmp_path / name, shard_size=2) for name in "ab")
    paths = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert len(paths) == 7
    for path in paths:
        assert (one / path).read_bytes() == (other / path).read_bytes()


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


@pytest.mark.parametrize("suffix", ["JPG", "jpeg", "webp", "gif", "tiff"])
def test_pictures_of_other_kinds_are_read(tmp_path, suffix):
    stream = io.BytesIO()
    Image.fromarray(picture(0)).save(stream, {"JPG": "jpeg"}.get(suffix, suffix))
    content = stream.getvalue()
    with webdataset.TarWriter(str(tmp_path / "000000.tar"), encoder=False) as writer:
        writer.write({"__key__": "a/0", suffix: content, "txt": b"a dog\n", "json": b'{"url": "somewhere"}'})
    verify(tmp_path)
    (sample,) = read_split(tmp_path)
    assert (sample.key, sample.image, sample.suffix) == ("a/0", content, suffix.lower())
    assert (sample.captions, sample.meta) == (("a dog",), {"url": "somewhere"})


def verify(folder, *, params=LIMITS, needs=("image", "captions")):
    shards = [{"name": "000000.tar"}]
    verify_shards(folder, shards, params, needs=needs)
    write_manifest(folder, shards, source={}, params=params, needs=needs)


def test_any_sample_is_one_read_away(tmp_path):
    split = Split(write(tmp_path, shard_size=4))
    assert len(split) == 6
    expected = list(samples())
    for number in (5, 0, 3, 4, 2, 1):
        shard, row = split.locate(number)
        file = split.open(shard)
        assert file.sample(row) == expected[number]
        assert (file.field("key", row), file.image(row)) == (expected[number].key, expected[number].image)
    assert split.open(0) is split.open(0)


def test_shards_are_read_where_they_lie(tmp_path):
    write(tmp_path / "elsewhere")
    shards = [{"name": "000000.tar", "path": str(tmp_path / "elsewhere" / "000000.tar")}]
    verify_shards(tmp_path / "here", shards, VerifyParams(), needs=("image",))
    write_manifest(tmp_path / "here", shards, source={}, params=VerifyParams(), needs=("image",))
    assert list(read_split(tmp_path / "here")) == list(samples())
    assert not list((tmp_path / "here").glob("*.tar"))


def test_repeated_images_are_counted_over_all_shards_and_kept(tmp_path):
    twice = [Sample(f"{index}", encode_png(picture(index % 3)), ("a dog",)) for index in range(7)]
    write_split(tmp_path, twice, source={}, shard_size=2)
    manifest = read_manifest(tmp_path)
    assert manifest["repeated_images"] == {"count": 4, "first": ["3", "4", "5", "6"]}
    assert manifest["samples"] == 7


def test_too_large_a_share_of_bad_samples_fails_and_names_them(tmp_path):
    bad = Sample("broken", b"no picture", ("a dog",))
    write_shard(tmp_path / "000000.tar", [*samples(), bad])
    verify(tmp_path, params=VerifyParams(max_bad_share=0.15), needs=("image",))
    assert read_manifest(tmp_path)["skipped"] == {"image of no known format": {"count": 1, "first": ["broken"]}}
    with pytest.raises(VlalignError, match=r"1 of 7 samples of .* \(1 image of no known format, first broken\)"):
        verify(tmp_path, params=VerifyParams(max_bad_share=0.14), needs=("image",))
    with pytest.raises(VlalignError, match=r"first broken\), and none may be left out; mend the data$"):
        verify(tmp_path, params=VerifyParams(max_bad_share=0), needs=("image",))


def test_indices_of_shards_that_are_gone_are_removed(tmp_path):
    write(tmp_path, shard_size=2)
    verify(tmp_path, needs=("image",))
    assert [path.name for path in (tmp_path / "index").iterdir()] == ["000000.arrow"]


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(VlalignError, match=r"manifest\.json does not exist"):
        list(read_split(tmp_path))


def test_a_missing_shard_is_named(tmp_path):
    (write(tmp_path) / "000000.tar").unlink()
    with pytest.raises(VlalignError, match=r"000000\.tar is named in .*manifest\.json but missing"):
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


def test_a_split_without_any_sample_is_an_error(tmp_path):
    write_shard(tmp_path / "0.tar", [])
    write_record(tmp_path / "shards.json", {"shards": [{"name": "0.tar"}], "source": {}})
    with pytest.raises(VlalignError, match=r"none of the 1 shards of .* has a sample that can be used"):
        verify_split(tmp_path, VerifyParams(), needs=("image",))


def test_parts_and_a_gathering_call_give_what_one_call_gives(tmp_path):
    for name in ("whole", "parts"):
        shards = []
        for number, sample in enumerate(samples(3)):
            shards.append({"name": f"{number}.tar"})
            (tmp_path / name).mkdir(exist_ok=True)
            write_shard(tmp_path / name / f"{number}.tar", [sample])
        write_record(tmp_path / name / "shards.json", {"shards": shards, "source": {}, "noted": {"x": NOTED}})
    for part in ("1-of-2", "0-of-2"):
        verify_split(tmp_path / "parts", VerifyParams(), needs=("image",), part=part)
        assert not (tmp_path / "parts" / "manifest.json").exists()
    for name in ("whole", "parts"):
        verify_split(tmp_path / name, VerifyParams(), needs=("image",))
    manifests = [read_manifest(tmp_path / name) for name in ("whole", "parts")]
    assert manifests[0] == manifests[1]
    assert (manifests[0]["samples"], manifests[0]["noted"]) == (4, {"x": NOTED})


def test_a_shard_that_lost_samples_since_it_was_made_is_an_error(tmp_path):
    write_shard(tmp_path / "0.tar", samples(2))
    write_record(tmp_path / "shards.json", {"shards": [{"name": "0.tar", "expected": 5}], "source": {}})
    with pytest.raises(VlalignError, match=r"0\.tar has 3 samples, but its maker counted 5"):
        verify_split(tmp_path, VerifyParams(), needs=("image",))


@pytest.mark.parametrize("names", [("a/0.tar", "b/0.tar"), ("0.tar", "0.tgz")])
def test_shards_that_share_a_name_are_refused(tmp_path, names):
    write_record(tmp_path / "shards.json", {"shards": [{"name": name} for name in names], "source": {}})
    with pytest.raises(VlalignError, match="share a name"):
        verify_split(tmp_path, VerifyParams(), needs=("image",))
