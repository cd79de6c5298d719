"""Images of one split that occur in another one byte for byte."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from vlalign.data.shards.index import index_path, open_index
from vlalign.data.shards.split import read_manifest
from vlalign.data.skipped import NAMED


@dataclass(frozen=True)
class Overlap:
    """How many images of the split `name` occur in another one, and the keys of the first of them."""

    name: str
    count: int
    first: tuple[str, ...]


def digests(split: Path) -> np.ndarray:
    """The sorted digests (int64) of all images of a split: eight bytes an image are held."""
    found = [_images(rows)[0] for rows in _indices(split)]
    every = np.concatenate([np.zeros(0, np.int64), *found])
    every.sort()
    return every


def overlap(known: np.ndarray, split: Path, *, name: str) -> Overlap:
    """Compare the images of a split with the sorted digests of another one.

    An image is told by eight bytes of a hash of its content: a wrong match among twelve million images and fifty
    thousand has a chance of 3e-8.
    """
    count = 0
    first: list[str] = []
    for rows in _indices(split):
        found, places = _images(rows)
        nearest = np.searchsorted(known, found).clip(max=max(len(known) - 1, 0))
        again = places[known[nearest] == found] if len(known) else places[:0]
        count += len(again)
        first += [rows.column("key")[row].as_py() for row in again[: NAMED - len(first)].tolist()]
    return Overlap(name, count, tuple(first))


def _indices(split: Path) -> Iterator[pa.RecordBatch]:
    for shard in read_manifest(split)["shards"]:
        yield open_index(index_path(split, shard["name"]), shard["index"])[0]


def _images(rows: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """The digests of a shard's images, and their rows; a sample without an image has none."""
    column = rows.column("digest")
    places = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    return column.fill_null(0).to_numpy(zero_copy_only=False)[places], places
