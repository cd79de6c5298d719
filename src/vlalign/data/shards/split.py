"""A split: a folder with shards, an index of each, and the manifest that everything downstream depends on."""

import contextlib
import itertools
import os
import re
import resource
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa

from vlalign.data.arrow import row_of
from vlalign.data.samples import Sample
from vlalign.data.shards.index import ShardFile, samples_of, shard_path
from vlalign.data.shards.tar import Item
from vlalign.errors import VlalignError
from vlalign.records import Stamp, read_record, stamp

# The splits of a dataset, and its folders that hold splits of a further kind.
NAMES, GROUPS = ("train", "validation", "test"), ("zeroshot", "composition", "unpaired")
# More are never open at a time, whatever the system allows.
MANY_FILES = 65_536


def part_of(shards: Sequence[Item], part: str | None) -> Sequence[Item]:
    """Every N-th shard from the K-th on for "K-of-N", all of them for None; raises VlalignError for another text."""
    if part is None:
        return shards
    numbers = re.fullmatch(r"(\d+)-of-(\d+)", part)
    if numbers is None or not 0 <= int(numbers[1]) < int(numbers[2]):
        raise VlalignError(f"--part is {part}; it must be K-of-N, such as 0-of-4, with K below N")
    return shards[int(numbers[1]) :: int(numbers[2])]


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest of a split or of annotations; raises VlalignError when it is missing, broken or was changed."""
    return read_record(Path(directory) / "manifest.json")


def place_of(directory: str | Path) -> str | None:
    """Which split of its dataset a folder is by its name, such as "train" or "zeroshot/test"; None for other names."""
    path = Path(os.path.abspath(directory))
    if path.parent.name in GROUPS:
        return f"{path.parent.name}/{path.name}"
    return path.name if path.name in NAMES else None


def check_place(directory: str | Path, manifest: Mapping[str, Any]) -> None:
    """Raises VlalignError when a manifest says that it is of another split of its dataset than its folder is.

    A split that was made in a folder of another name may be anywhere.
    """
    place, folder = manifest.get("place"), place_of(directory)
    if None not in (place, folder) and place != folder:
        raise VlalignError(
            f"{directory} holds the split {place}, not {folder}: folders were moved; move them back, or delete "
            f"{directory}/manifest.json and run the workflow again"
        )


def annotation_path(directory: Path, shard: Mapping[str, Any]) -> Path:
    """Where what is known of the samples of a shard lies."""
    return directory / Path(shard["name"]).with_suffix(".arrow").name


def refuse_data(output: Path) -> None:
    """Raises VlalignError where shards lie: annotations would take the place of their manifest."""
    path = output / "manifest.json"
    if path.is_file() and "needs" in read_manifest(output):
        raise VlalignError(f"{output} holds a split of data; give another --output for what is found in it")


def read_split(directory: str | Path) -> Iterator[Sample]:
    """Yield the good samples of a split in the manifest's order.

    Raises VlalignError when a shard is missing, was changed since the manifest was written, or cannot be read.
    """
    for shard in read_manifest(directory)["shards"]:
        yield from samples_of(Path(directory), shard)


class Split:
    """The good samples of a split by their number, read when they are asked for.

    What is in memory does not grow with the split: indices are mapped, and what was read is not kept.
    Raises VlalignError when a shard is missing or was changed in size since the manifest was written; what else was
    changed is found when it is read.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        manifest = read_manifest(self.directory)
        self.shards, self.needs = manifest["shards"], manifest["needs"]
        self.most_captions = max((shard["most_captions"] for shard in self.shards), default=0)
        self.starts = list(itertools.accumulate((shard["samples"] for shard in self.shards), initial=0))
        for shard in self.shards:
            shard_path(self.directory, shard)
        self.open = lru_cache(maxsize=open_files())(lambda number: ShardFile(self.directory, self.shards[number]))

    def __reduce__(self) -> tuple:
        return Split, (self.directory,)

    def __len__(self) -> int:
        return self.starts[-1]

    def locate(self, sample: int) -> tuple[int, int]:
        """Shard number, and row within it, of a sample."""
        number = bisect_right(self.starts, sample) - 1
        return number, sample - self.starts[number]

    def require(self, *needs: str) -> None:
        """Raises VlalignError when samples may lack one of these: "image", "captions", "label"."""
        if missing := set(needs) - set(self.needs):
            raise VlalignError(
                f"{self.directory} was verified without asking for {' and '.join(sorted(missing))}; it cannot be used "
                "as a split of " + " and ".join(needs)
            )

    def key(self, sample: int) -> str:
        """The key of a sample."""
        shard, row = self.locate(sample)
        return self.open(shard).field("key", row)

    def caption_count(self, sample: int) -> int:
        """How many captions a sample has."""
        shard, row = self.locate(sample)
        return len(self.open(shard).rows.column("captions")[row])

    def annotations(self, directory: Path, kind: "Callable[[Path, Stamp], File]", *, rule: str) -> "Annotations[File]":
        """What another step found out about these samples, by sample; `rule` makes it."""
        return Annotations(self, directory, kind, rule)


class AnnotationFile(Protocol):
    """What is known of the samples of one shard, row by row; `keys` says of which."""

    keys: pa.StringArray


File = TypeVar("File", bound=AnnotationFile)


class Annotations(Generic[File]):
    """Annotation files of a split, one for each shard, joined by key; raises VlalignError when a shard has none."""

    def __init__(self, split: Split, directory: Path, kind: Callable[[Path, Stamp], File], rule: str) -> None:
        self.split, self.directory, self.kind, self.rule = split, directory, kind, rule
        manifest = read_manifest(directory)
        # Keys are running numbers in many data sets: those of another split would be found as well.
        if manifest.get("split", made_of := stamp(split.directory / "manifest.json")["sha256"]) != made_of:
            raise VlalignError(
                f"{directory} has the {rule} of another split, or of another state of {split.directory}; delete "
                f"{directory}/manifest.json and run the workflow again"
            )
        files = {Path(shard["name"]).stem: shard for shard in manifest["shards"]}
        if missing := [shard["name"] for shard in split.shards if Path(shard["name"]).stem not in files]:
            raise VlalignError(f"{missing[0]} has no {rule} in {directory}; run the {rule} rule again")
        self.files = [files[Path(shard["name"]).stem] for shard in split.shards]
        self.open = lru_cache(maxsize=open_files())(self._open)

    def __reduce__(self) -> tuple:
        return Annotations, (self.split, self.directory, self.kind, self.rule)

    def _open(self, shard: int) -> File:
        file = self.files[shard]
        return self.kind(self.directory / file["name"], file)

    def find(self, sample: int) -> tuple[File, int]:
        """The file and the row of a sample, likely to be its row in the shard; raises VlalignError if there is none."""
        shard, row = self.split.locate(sample)
        file, key = self.open(shard), self.split.key(sample)
        found = row_of(file.keys, key, likely=row)
        if found is None:
            raise VlalignError(f"'{key}' has no {self.rule} in {self.directory}; run the {self.rule} rule again")
        return file, found


@cache
def open_files() -> int:
    """How many shards of a split may be open at a time: an eighth of what the system lets this process open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MANY_FILES), hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(soft, MANY_FILES) // 8
