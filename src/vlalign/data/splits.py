"""A split: a folder with shards, an index of each, and the manifest that everything downstream depends on."""

import itertools
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vlalign.data.index import ShardFile, index_path, open_index, samples_of
from vlalign.data.samples import Sample
from vlalign.data.shards import batched, write_tar
from vlalign.data.skips import NAMED, Skips
from vlalign.data.verify import verify_shard
from vlalign.errors import VlalignError
from vlalign.files import read_json, write_json
from vlalign.params import VerifyParams

# Shards whose files are open at a time.
OPEN = 64
PER_SHARD = ("name", "path", "bytes", "sha256", "samples", "captions")


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
        write_tar(directory / shards[-1]["name"], batch)
    verify_shards(directory, shards, VerifyParams(), needs=needs)
    write_manifest(directory, shards, source=source, params=VerifyParams())


def verify_shards(
    directory: Path,
    shards: Iterable[dict[str, Any]],
    params: VerifyParams,
    *,
    needs: Collection[str],
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Make the index of every shard that has none for its present content; see `verify_shard`."""
    for shard in shards:
        verify_shard(directory, shard, params, needs=needs)
        advance()


def write_manifest(
    directory: Path,
    shards: Collection[dict[str, Any]],
    *,
    source: dict[str, Any],
    params: VerifyParams,
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
            "source": source,
            "verify": params.model_dump(mode="json"),
        },
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

    What is in memory does not grow with the split: the indices are mapped, and few shards are open at a time.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.shards = read_manifest(self.directory)["shards"]
        self.starts = list(itertools.accumulate((shard["samples"] for shard in self.shards), initial=0))
        self.open = lru_cache(maxsize=OPEN)(self._open)

    def _open(self, number: int) -> ShardFile:
        return ShardFile(self.directory, self.shards[number])

    def __len__(self) -> int:
        return self.starts[-1]

    def locate(self, sample: int) -> tuple[int, int]:
        """Shard number, and row within it, of a sample."""
        number = bisect_right(self.starts, sample) - 1
        return number, sample - self.starts[number]
