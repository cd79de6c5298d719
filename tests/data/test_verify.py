import io
import os
import random
import shutil
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from vlalign.data.samples import Sample, decode_image
from vlalign.data.shards.index import index_path, open_index
from vlalign.data.shards.manifest import write_manifest
from vlalign.data.shards.split import Split, read_manifest
from vlalign.data.shards.tar import write_shard
from vlalign.data.shards.verify import verify_shard
from vlalign.errors import VlalignError
from vlalign.params import VerifyParams

DAMAGED = 2000
NO_RANGE = "image of a mode without black and white"


def image_bytes(form="PNG", mode="RGB", size=(12, 9), **options):
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def huge_png(width, height):
    """A PNG whose header promises more pixels than are there."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


JPEG, PNG = image_bytes("JPEG", size=(64, 48)), image_bytes()


def cut(data, rng):
    return data[: rng.randrange(40, len(data) - 20)]


def sprinkled(data, rng):
    damaged = bytearray(data)
    for _ in range(rng.randrange(1, 30)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def with_exif(rng):
    """On its side, in a block with some wrong bytes."""
    exif = Image.Exif()
    exif[0x0112] = rng.randrange(2, 9)
    exif[0x010F] = "a camera"
    data = image_bytes("JPEG", size=(20, 10), exif=exif)
    start = data.index(b"Exif") + 6
    return data[:start] + sprinkled(data[start : start + 40], rng) + data[start + 40 :]


def grey_16():
    stream = io.BytesIO()
    Image.fromarray(np.full((9, 12), 30_000, np.uint16)).save(stream, "PNG")
    return stream.getvalue()


# (files of the sample by suffix, the cause of the skip; None where it is good, "any" where luck decides)
CASES = {
    "good": lambda rng: ({"png": PNG, "txt": b"a dog"}, None),
    "truncated jpeg": lambda rng: ({"jpg": cut(JPEG, rng), "txt": b"a dog"}, "image that cannot be decoded"),
    "truncated png": lambda rng: ({"png": PNG[: len(PNG) // 2], "txt": b"a dog"}, "image that cannot be decoded"),
    "noise in a jpeg": lambda rng: ({"jpg": sprinkled(JPEG, rng), "txt": b"a dog"}, "any"),
    "noise in a png": lambda rng: ({"png": sprinkled(PNG, rng), "txt": b"a dog"}, "any"),
    "nothing but noise": lambda rng: ({"png": rng.randbytes(200), "txt": b"a dog"}, "image of no known format"),
    "cmyk": lambda rng: ({"jpg": image_bytes("JPEG", "CMYK"), "txt": b"a dog"}, None),
    "palette": lambda rng: ({"gif": image_bytes("GIF", "P"), "txt": b"a dog"}, None),
    "one pixel": lambda rng: ({"png": image_bytes(size=(1, 1)), "txt": b"a dog"}, "image that is too small"),
    "a bomb": lambda rng: ({"png": huge_png(30_000, 30_000), "txt": b"a dog"}, "image of too many pixels"),
    "half a bomb": lambda rng: ({"png": huge_png(11_000, 11_000), "txt": b"a dog"}, "image of too many pixels"),
    "no bytes": lambda rng: ({"jpg": b"", "txt": b"a dog"}, "image of zero bytes"),
    "wrong suffix": lambda rng: ({"jpg": PNG, "txt": b"a dog"}, None),
    "no image": lambda rng: ({"txt": b"a dog", "json": b"{}"}, "no image"),
    "no captions": lambda rng: ({"png": PNG}, "no captions"),
    "empty caption": lambda rng: ({"png": PNG, "txt": b"  "}, "empty caption"),
    "empty captions": lambda rng: ({"png": PNG, "txt": b"\n\n"}, "empty caption"),
    "one caption of two": lambda rng: ({"png": PNG, "txt": b"\na dog"}, None),
    "nul": lambda rng: ({"png": PNG, "txt": b"a \0 dog"}, "caption with control characters"),
    "escape": lambda rng: ({"png": PNG, "txt": b"a \x1b[31m dog"}, "caption with control characters"),
    "noncharacter": lambda rng: ({"png": PNG, "txt": "a \uffff dog".encode()}, "caption with control characters"),
    "tab": lambda rng: ({"png": PNG, "txt": b"a\tdog"}, None),
    "latin-1": lambda rng: ({"png": PNG, "txt": "un chien français".encode("latin-1")}, "captions that are not UTF-8"),
    "digits": lambda rng: ({"png": PNG, "txt": b"100 % !!"}, "caption without a letter"),
    "endless": lambda rng: ({"png": PNG, "txt": b"dog " * 5000}, "caption that is too long"),
    "cjk": lambda rng: ({"png": PNG, "txt": "一只狗在跑".encode()}, None),
    "damaged exif": lambda rng: ({"jpg": with_exif(rng), "txt": b"a dog"}, "any"),
    "a ribbon": lambda rng: ({"png": image_bytes(size=(210, 10)), "txt": b"a dog"}, "image that is too long"),
    "16 bits": lambda rng: ({"png": grey_16(), "txt": b"a dog"}, None),
    "floats": lambda rng: (
        {"tiff": image_bytes("TIFF", "F"), "txt": b"a dog"},
        "image of a mode without black and white",
    ),
    "windows": lambda rng: ({"png": PNG, "txt": b"a dog\r\na cat\r\n"}, None),
    "class in words": lambda rng: ({"png": PNG, "txt": b"a dog", "cls": b"dog"}, None),
    "damaged json": lambda rng: ({"png": PNG, "txt": b"a dog", "json": b"{"}, None),
    "deep json": lambda rng: ({"png": PNG, "txt": b"a dog", "json": b"[" * 100_000}, None),
}
UNSAFE = ("/etc/passwd", "../../outside", "a/../../outside", "line\nfeed", "bell\a")


def add(tar, key, files):
    for suffix, content in files.items():
        info = tarfile.TarInfo(f"{key}.{suffix}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, on damaged blocks


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    """A split of damaged samples: its folder, and the cause of every key's skip."""
    folder, rng, causes = tmp_path_factory.mktemp("fuzz") / "split", random.Random(0), {}
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for number, kind in enumerate(rng.choices(list(CASES), k=DAMAGED)):
            files, causes[f"{number:05d}"] = CASES[kind](rng)
            add(tar, f"{number:05d}", files)
        for name in UNSAFE:
            causes[name] = "unsafe name"
            add(tar, name, {"png": PNG, "txt": b"a dog"})
        add(tar, "00003", {"png": PNG, "txt": b"a dog"})
        tar.addfile(tarfile.TarInfo("LICENSE"))
    shards = [{"name": "0.tar"}]
    verify_shard(folder, shards[0], VerifyParams(), needs=("image", "captions"))
    write_manifest(folder, shards, source={}, params=VerifyParams(max_bad_share=1), needs=("image", "captions"))
    return folder, causes


def test_every_damaged_sample_is_used_or_counted_by_its_cause(fuzz):
    folder, causes = fuzz
    manifest, (rows, _) = read_manifest(folder), open_index(index_path(folder, "0.tar"))
    kept = set(rows.column("key").to_pylist())
    assert {key for key, cause in causes.items() if cause is None} <= kept
    assert not {key for key, cause in causes.items() if cause not in (None, "any")} & kept
    # What luck decides is in one place or the other.
    skipped = sum(entry["count"] for entry in manifest["skipped"].values())
    assert len(kept) + skipped == len(causes) + 1
    for cause in set(causes.values()) - {None, "any"}:
        certain = sum(value == cause for value in causes.values())
        lucky = sum(value == "any" for value in causes.values())
        assert certain <= manifest["skipped"][cause]["count"] <= certain + lucky
        assert 0 < len(manifest["skipped"][cause]["first"]) <= 10
    assert manifest["skipped"]["key that occurred before"] == {"count": 1, "first": ["00003"]}


def test_nothing_is_written_outside_the_split(fuzz):
    folder, _ = fuzz
    assert [path.name for path in folder.parent.iterdir()] == ["split"]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["0.tar", "index/0.arrow", "manifest.json"]


def test_what_is_kept_can_be_read(fuzz):
    split = Split(fuzz[0])
    file = split.open(0)
    for row in range(len(split)):
        picture = decode_image(file.image(row))
        assert (picture.mode, picture.size) == ("RGB", (file.field("width", row), file.field("height", row)))
        assert all(caption.strip() == caption != "" for caption in file.sample(row).captions)


def test_modes_and_captions_and_damaged_json_are_counted(fuzz):
    manifest = read_manifest(fuzz[0])
    assert {"RGB", "CMYK", "P"} <= set(manifest["modes"])
    assert manifest["captions_skipped"]["empty caption"]["count"] > 10
    assert manifest["noted"]["class that is no number from 0"]["count"] > 10
    assert manifest["noted"]["JSON that cannot be read"]["count"] > 20
    assert manifest["noted"]["file that belongs to no sample"] == {"count": 1, "first": ["LICENSE"]}


def good(count, **changes):
    return [Sample(f"k{index}", image_bytes(size=(12 + index, 9)), ("a dog",), **changes) for index in range(count)]


@pytest.mark.parametrize(
    ("needs", "kept"),
    [
        (("image",), ["i", "p", "l"]),
        (("captions",), ["c", "p"]),
        (("image", "captions"), ["p"]),
        (("image", "label"), ["l"]),
    ],
)
def test_a_split_says_what_its_samples_need(tmp_path, needs, kept):
    samples = [
        Sample("i", PNG),
        Sample("c", captions=("a dog",)),
        Sample("p", PNG, ("a cat",)),
        Sample("l", PNG, label=3),
    ]
    write_shard(tmp_path / "0.tar", samples)
    verify_shard(tmp_path, {"name": "0.tar"}, VerifyParams(), needs=needs)
    rows, report = open_index(index_path(tmp_path, "0.tar"))
    assert rows.column("key").to_pylist() == kept
    assert sum(entry["count"] for entry in report["skipped"].values()) == 4 - len(kept)


def test_another_file_of_the_same_size_is_not_taken_for_the_one_that_was_verified(tmp_path):
    for name, first in (("one", 0), ("other", 5)):
        pictures = (Sample(f"{name}{k}", PNG, (f"a {name} {k}",)) for k in range(first, first + 3))
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "0.tar", pictures)
    one, other = tmp_path / "one" / "0.tar", tmp_path / "other" / "0.tar"
    assert one.stat().st_size == other.stat().st_size
    os.utime(other, (1, 1))

    def keys(path):
        split = tmp_path / "split"
        verify_shard(split, {"name": "0.tar", "path": str(path)}, VerifyParams(), needs=("image",))
        return open_index(index_path(split, "0.tar"))[0].column("key").to_pylist()

    assert keys(one) == ["one0", "one1", "one2"]
    assert keys(other) == ["other5", "other6", "other7"]
    shutil.copy2(one, other)
    assert keys(other) == ["one0", "one1", "one2"], "a copy that keeps its time"


def test_a_file_that_is_not_what_was_fetched_is_an_error(tmp_path):
    write_shard(tmp_path / "0.tar", good(2))
    shard = {"name": "0.tar", "sha256": "0" * 64}
    with pytest.raises(VlalignError, match="not the file that was brought here"):
        verify_shard(tmp_path, shard, VerifyParams(), needs=("image",))


def test_what_is_not_needed_is_not_judged(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, "a", {"png": b"broken", "txt": b"a dog", "cls": b"dog"})
    verify_shard(tmp_path, {"name": "0.tar"}, VerifyParams(), needs=("captions",))
    rows, report = open_index(index_path(tmp_path, "0.tar"))
    assert rows.column("captions").to_pylist() == [["a dog"]]
    assert report["noted"] == {"class that is no number from 0": {"count": 1, "first": ["a"]}}


@pytest.mark.parametrize("label", ["dog", "-1", "", "99999999999"])
def test_a_class_is_a_number_from_0(tmp_path, label):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, "a", {"png": PNG, "cls": label.encode()})
    verify_shard(tmp_path, {"name": "0.tar"}, VerifyParams(), needs=("image", "label"))
    assert open_index(index_path(tmp_path, "0.tar"))[1]["skipped"]["class that is no number from 0"]["count"] == 1


def test_a_verified_shard_is_not_verified_again(tmp_path):
    write_shard(tmp_path / "0.tar", good(3))
    shard, index = {"name": "0.tar"}, index_path(tmp_path, "0.tar")
    verify_shard(tmp_path, shard, VerifyParams(), needs=("image",))
    before = index.stat().st_ino
    verify_shard(tmp_path, shard, VerifyParams(max_bad_share=0.5), needs=("image",))
    os.utime(tmp_path / "0.tar")
    verify_shard(tmp_path, shard, VerifyParams(), needs=("image",))
    assert index.stat().st_ino == before


@pytest.mark.parametrize("change", ["content", "limits", "needs", "damage"])
def test_a_shard_is_verified_again_when_it_must_be(tmp_path, change):
    write_shard(tmp_path / "0.tar", good(3))
    shard, index = {"name": "0.tar"}, index_path(tmp_path, "0.tar")
    verify_shard(tmp_path, shard, VerifyParams(), needs=("image",))
    before = index.stat().st_ino
    if change == "content":
        write_shard(tmp_path / "0.tar", good(3, label=1))
    if change == "damage":
        index.write_bytes(index.read_bytes()[:100])
    limits = VerifyParams(min_side=10) if change == "limits" else VerifyParams()
    verify_shard(tmp_path, shard, limits, needs=("image", "captions") if change == "needs" else ("image",))
    assert index.stat().st_ino != before
    open_index(index)


def test_sizes_are_those_of_the_picture_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    write_shard(tmp_path / "0.tar", [Sample("a", image_bytes("JPEG", size=(40, 20), exif=exif), suffix="jpg")])
    verify_shard(tmp_path, {"name": "0.tar"}, VerifyParams(), needs=("image",))
    rows, _ = open_index(index_path(tmp_path, "0.tar"))
    assert (rows.column("width")[0].as_py(), rows.column("height")[0].as_py()) == (20, 40)


def test_a_shard_that_ends_early_is_an_error(tmp_path):
    write_shard(tmp_path / "0.tar", good(3))
    data = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(data[: len(data) // 2])
    with pytest.raises(VlalignError, match=r"0\.tar is not a readable tar file"):
        verify_shard(tmp_path, {"name": "0.tar"}, VerifyParams(), needs=("image",))
    assert not index_path(tmp_path, "0.tar").exists()
