import time
from pathlib import Path

import numpy as np

from vlalign.data.samples import Sample, encode_png
from vlalign.data.shards.manifest import write_split
from vlalign.data.shards.overlap import Overlap, digests, overlap
from vlalign.data.skipped import NAMED


def picture(number: int) -> bytes:
    return encode_png(np.full((8, 8, 3), number, np.uint8))


def split(folder: Path, numbers: range | list[int], *, prefix: str) -> Path:
    samples = [Sample(f"{prefix}{i}", picture(number), ("a dog",)) for i, number in enumerate(numbers)]
    write_split(folder, samples, source={}, shard_size=7)
    return folder


def test_images_of_another_split_are_counted_and_named(tmp_path: Path) -> None:
    train = split(tmp_path / "train", range(20), prefix="t")
    test = split(tmp_path / "test", [100, 3, 101, 19, 102, 103, 104, 105, 106, 3], prefix="e")
    assert overlap(digests(train), test, name="test") == Overlap("test", 3, ("e1", "e3", "e9"))
    alone = split(tmp_path / "alone", range(50, 60), prefix="a")
    assert overlap(digests(train), alone, name="alone") == Overlap("alone", 0, ())


def test_the_first_names_are_few(tmp_path: Path) -> None:
    train = split(tmp_path / "train", range(20), prefix="t")
    found = overlap(digests(train), train, name="train")
    assert found == Overlap("train", 20, tuple(f"t{i}" for i in range(NAMED)))


def test_a_split_without_images_shares_none(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    write_split(empty, [Sample(f"n{i}", b"", ("a cat",)) for i in range(3)], source={}, needs=("captions",))
    test = split(tmp_path / "test", range(3), prefix="e")
    assert overlap(digests(empty), test, name="test") == Overlap("test", 0, ())
    assert overlap(digests(test), empty, name="empty") == Overlap("empty", 0, ())


def test_twelve_million_images_are_searched_in_no_time(tmp_path: Path) -> None:
    test = split(tmp_path / "test", range(9), prefix="e")
    known = np.sort(np.random.default_rng(0).integers(-(2**62), 2**62, 12_000_000))
    known[5_000_000] = 0
    start = time.perf_counter()
    assert overlap(known, test, name="test").count == 0
    assert time.perf_counter() - start < 1
