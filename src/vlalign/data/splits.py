"""A split: a folder with shards, an index of each, and the manifest that everything downstream depends on."""

import contextlib
import itertools
import re
import resource
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from vlalign.console import progress
from vlalign.data.index import ShardFile, index_path, open_index, samples_of, shard_path
from vlalign.data.samples import Sample
from vlalign.data.shards import Item, batched, write_shard
from vlalign.data.skips import NAMED, Skips
from vlalign.data.verify import verify_shard
from vlalign.errors import VlalignError
from vlalign.files import read_json, write_json
from vlalign.params import VerifyParams

# More are never open at a time, whatever the system allows.
MANY_FILES = 65_536
PER_SHARD = ("name", "path", "bytes", "sha256", "samples", "captions", "most_captions", "limits")


def write_split(
    directory: str | Path,
    samples: Iterable[Sample],
    *,
    source: dict[str, Any],
    shard_size: int = 2000,
    shard_name: str = "{:06d}.tar",
    needs: Collection[str] = ("image",),
) -> None:
    """Write `samples` as shards of at most `shard_size`, verify them, then write the manifest; equal samples give equal
    bytes.
    """
    directory = Path(directory)
    shards = []
    for index, batch in enumerate(batched(samples, shard_size)):
        shards.append({"name": shard_name.format(index)})
        write_shard(directory / shards[-1]["name"], batch)
    verify_shards(directory, shards, VerifyParams(), needs=needs)
    write_manifest(directory, shards, source=source, params=VerifyParams(), needs=needs)


def verify_split(directory: Path, params: VerifyParams, *, needs: Collection[str], part: str | None = None) -> None:
    """Verify the shards that `shards.json` in the folder lists, then write the manifest.

    Args:
        needs: which of "image", "captions" and "label" a sample must have.
        part: "K-of-N" verifies every N-th shard from the K-th on and writes `parts/K-of-N.json` in place of the
            manifest; shards that were verified as they are now are passed over.

    Raises VlalignError when a shard cannot be read to its end, or too many samples are bad.
    """
    listed = read_json(directory / "shards.json")
    _check_names(directory, listed["shards"])
    verify_shards(directory, part_of(listed["shards"], part), params, needs=needs)
    if part is not None:
        write_json(directory / "parts" / f"{part}.json", {"shards": len(part_of(listed["shards"], part))})
        return
    told = {"source": listed["source"], "skipped": listed.get("skipped", {})}
    write_manifest(directory, listed["shards"], params=params, needs=needs, **told)


def _check_names(directory: Path, shards: Sequence[dict[str, Any]]) -> None:
    """Indices and annotations bear the names of their shards."""
    seen: dict[str, str] = {}
    for shard in shards:
        other = seen.setdefault(Path(shard["name"]).stem, shard["name"])
        if other is not shard["name"]:
            raise VlalignError(f"{other} and {shard['name']} of {directory} share a name; rename one")


def part_of(shards: Sequence[Item], part: str | None) -> Sequence[Item]:
    """Every N-th shard from the K-th on for "K-of-N", all of them for None; raises VlalignError for another text."""
    if part is None:
        return shards
    numbers = re.fullmatch(r"(\d+)-of-(\d+)", part)
    if numbers is None or not 0 <= int(numbers[1]) < int(numbers[2]):
        raise VlalignError(f"--part is {part}; it must be K-of-N, such as 0-of-4, with K below N")
    return shards[int(numbers[1]) :: int(numbers[2])]


def verify_shards(
    directory: Path, shards: Sequence[dict[str, Any]], params: VerifyParams, *, needs: Collection[str]
) -> None:
    """Make the index of every shard that has none for its present content; see `verify_shard`."""
    with progress("verifying shards", total=len(shards)) as advance:
        for shard in shards:
            verify_shard(directory, shard, params, needs=needs)
            advance(1)


def write_manifest(
    directory: Path,
    shards: Collection[dict[str, Any]],
    *,
    source: dict[str, Any],
    params: VerifyParams,
    needs: Collection[str],
    skipped: Mapping[str, Any] | None = None,
) -> None:
    """Add up the reports of verified shards; written last, the manifest says that the split can be used.

    skipped: what was left out before the shards were made.
    Raises VlalignError when more than `params.max_bad_share` of the samples are skipped.
    """
    totals = {name: Skips() for name in ("skipped", "captions_skipped", "noted")}
    totals["skipped"].merge(skipped or {})
    modes: dict[str, int] = {}
    entries = []
    for shard in shards:
        _, report = open_index(index_path(directory, shard["name"]))
        _check_count(directory, shard, report)
        for name, total in totals.items():
            total.merge(report[name])
        for mode, count in report["modes"].items():
            modes[mode] = modes.get(mode, 0) + count
        entries.append({key: value for key, value in (report | shard).items() if key in PER_SHARD})
    samples = sum(entry["samples"] for entry in entries)
    _refuse_too_many(directory, samples, totals["skipped"], params)
    _remove_stale(directory, shards)
    write_json(
        directory / "manifest.json",
        {
            "shards": entries,
            "samples": samples,
            "captions": sum(entry["captions"] for entry in entries),
            **{name: total.as_dict() for name, total in totals.items()},
            "modes": dict(sorted(modes.items())),
            "repeated_images": _repeated_images(directory, shards),
            "needs": sorted(needs),
            "source": source,
            "verify": params.model_dump(mode="json"),
        },
    )


def _check_count(directory: Path, shard: dict[str, Any], report: dict[str, Any]) -> None:
    """A shard that lost samples on its way is readable all the same, if its maker did not say how many there are."""
    found = report["samples"] + sum(entry["count"] for entry in report["skipped"].values())
    if found != shard.get("expected", found):
        raise VlalignError(
            f"{directory / shard.get('path', shard['name'])} has {found} samples, but its maker counted "
            f"{shard['expected']}; make or fetch this shard again"
        )


def _refuse_too_many(directory: Path, good: int, skipped: Skips, params: VerifyParams) -> None:
    total = good + skipped.total
    if skipped.total > params.max_bad_share * total:
        raise VlalignError(
            f"{skipped.total} of {total} samples of {directory} cannot be used ({skipped}), a share of more than "
            f"{params.max_bad_share:g}, which is `verify.max_bad_share` of the dataset; mend the data or raise it"
        )


def _remove_stale(directory: Path, shards: Collection[dict[str, Any]]) -> None:
    """Indices of shards that the split no longer has."""
    wanted = {index_path(directory, shard["name"]) for shard in shards}
    for path in (directory / "index").glob("*.arrow"):
        if path not in wanted:
            path.unlink()


def _repeated_images(directory: Path, shards: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """How many images have the very bytes of an earlier one, and the first names; all of them are kept."""
    rows = [open_index(index_path(directory, shard["name"]))[0] for shard in shards]
    digests = [batch.column("digest").fill_null(0).to_numpy(zero_copy_only=False) for batch in rows]
    every = np.concatenate([np.zeros(0, np.int64), *digests])
    _, first = np.unique(every, return_index=True)
    again = np.ones(len(every), bool)
    again[first] = False
    again &= every != 0
    keys = itertools.chain.from_iterable(batch.column("key") for batch in rows)
    names = itertools.islice(itertools.compress(keys, again), NAMED)
    return {"count": int(again.sum()), "first": [name.as_py() for name in names]}


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest of a split; raises VlalignError when it is missing or broken."""
    return read_json(Path(directory) / "manifest.json")


def read_split(directory: str | Path) -> Iterator[Sample]:
    """Yield the good samples of a split in the manifest's order.

    Raises VlalignError when a shard is missing, was changed in size since the manifest was written, or cannot be read.
    """
    for shard in read_manifest(directory)["shards"]:
        yield from samples_of(Path(directory), shard)


class Split:
    """The good samples of a split by their number, read when they are asked for.

    What is in memory does not grow with the split: indices are mapped, and what was read is not kept.
    Raises VlalignError when a shard is missing or was changed in size since the manifest was written.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        manifest = read_manifest(self.directory)
        self.shards, self.needs = manifest["shards"], manifest["needs"]
        self.most_captions = max((shard["most_captions"] for shard in self.shards), default=0)
        self.starts = list(itertools.accumulate((shard["samples"] for shard in self.shards), initial=0))
        for shard in self.shards:
            shard_path(self.directory, shard)
        self.open = lru_cache(maxsize=open_files())(self._open)

    def __reduce__(self) -> tuple:
        return Split, (self.directory,)

    def __len__(self) -> int:
        return self.starts[-1]

    def _open(self, number: int) -> ShardFile:
        return ShardFile(self.directory, self.shards[number])

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

    def annotations(self, directory: Path, kind: "Callable[[Path], File]", *, rule: str) -> "Annotations[File]":
        """What another step found out about these samples, by sample; `rule` makes it."""
        return Annotations(self, directory, kind, rule)


class AnnotationFile(Protocol):
    """What is known of the samples of one shard, with the row of each that belongs to a key."""

    def find(self, row: int, key: str) -> Any:
        """The entry of a key, which is likely to be in this row; None where there is none."""


File = TypeVar("File", bound=AnnotationFile)


class Annotations(Generic[File]):
    """Annotation files of a split, one for each shard, joined by key.

    Raises VlalignError when a shard has none.
    """

    def __init__(self, split: Split, directory: Path, kind: Callable[[Path], File], rule: str) -> None:
        self.split, self.directory, self.kind, self.rule = split, directory, kind, rule
        names = {Path(shard["name"]).stem: shard["name"] for shard in read_manifest(directory)["shards"]}
        missing = [shard["name"] for shard in split.shards if Path(shard["name"]).stem not in names]
        if missing:
            raise VlalignError(f"{missing[0]} has no {rule} in {directory}; run the {rule} rule again")
        self.names = [names[Path(shard["name"]).stem] for shard in split.shards]
        self.open = lru_cache(maxsize=open_files())(self._open)

    def __reduce__(self) -> tuple:
        return Annotations, (self.split, self.directory, self.kind, self.rule)

    def _open(self, shard: int) -> File:
        return self.kind(self.directory / self.names[shard])

    def find(self, shard: int, row: int, key: str) -> Any:
        """The entry of a sample; raises VlalignError when there is none."""
        found = self.open(shard).find(row, key)
        if found is None:
            raise VlalignError(f"'{key}' has no {self.rule} in {self.directory}; run the {self.rule} rule again")
        return found


@cache
def open_files() -> int:
    """How many shards may be open at a time: half of what the system lets this process open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MANY_FILES), hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(soft, MANY_FILES) // 2
