"""Candidate regions of every image: object masks where the data have them, then random boxes (PowerCLIP-R).

Regions are kept in the picture's own pixels, one Parquet file per shard, joined by key; the patch grid is the reader's
affair.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlalign.annotate.tables import structs
from vlalign.data.index import samples_of
from vlalign.data.samples import Sample, decode_image, decode_instances
from vlalign.data.splits import read_manifest
from vlalign.errors import VlalignError
from vlalign.files import atomic_write, write_json
from vlalign.params import RegionsParams

EDGES = ("left", "top", "right", "bottom")
REGION = pa.struct([("kind", pa.string()), *((edge, pa.int32()) for edge in EDGES), ("mask", pa.binary())])
SCHEMA = pa.schema([("key", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("regions", pa.list_(REGION))])


class Region(NamedTuple):
    """A box in pixels (right and bottom exclusive) and, for a mask, the bits of its inside: row by row, the first pixel
    in the highest bit of the first byte.
    """

    kind: str
    left: int
    top: int
    right: int
    bottom: int
    mask: bytes | None = None

    def fill(self, canvas: np.ndarray) -> None:
        """Set the region's pixels of a bool canvas H W."""
        window = canvas[self.top : self.bottom, self.left : self.right]
        window[:] = True if self.mask is None else _unpacked(self.mask, window.shape)


def _unpacked(bits: bytes, shape: tuple[int, ...]) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=math.prod(shape)).view(bool).reshape(shape)


@dataclass(frozen=True)
class ImageRegions:
    """The regions of one image, in order of preference."""

    key: str
    height: int
    width: int
    regions: tuple[Region, ...]

    def masks(self, *, kinds: Sequence[str], count: int | None = None) -> np.ndarray:
        """Bool masks R H W of the first `count` regions of these kinds, kind by kind."""
        chosen = [region for kind in kinds for region in self.regions if region.kind == kind][:count]
        masks = np.zeros((len(chosen), self.height, self.width), bool)
        for region, canvas in zip(chosen, masks, strict=True):
            region.fill(canvas)
        return masks


def annotate_split(split: str | Path, output: str | Path, params: RegionsParams) -> None:
    """Write the regions of every shard of `split` and a manifest with counts by kind."""
    split, output = Path(split), Path(output)
    counts: dict[str, int] = {}
    shards = []
    for shard in read_manifest(split)["shards"]:
        rows = [image_regions(sample, params) for sample in samples_of(split, shard)]
        for row in rows:
            for region in row.regions:
                counts[region.kind] = counts.get(region.kind, 0) + 1
        name = Path(shard["name"]).with_suffix(".parquet").name
        _write(output / name, rows)
        shards.append({"name": name, "images": len(rows)})
    write_json(output / "manifest.json", {"shards": shards, "regions": counts, "params": params.model_dump()})


def image_regions(sample: Sample, params: RegionsParams) -> ImageRegions:
    """Masks of the sample's objects, then boxes that depend on (seed, key) alone."""
    width, height = decode_image(sample.image).size
    masks = [] if sample.instances is None else list(_object_masks(decode_instances(sample.instances)))
    rng = random.Random(f"{params.seed}/{sample.key}")
    boxes = [random_box(rng, height=height, width=width) for _ in range(params.boxes)]
    return ImageRegions(sample.key, height, width, (*masks, *boxes))


def _object_masks(instances: np.ndarray) -> Iterator[Region]:
    """One mask per object, in the order of the ids, cut to its bounding box."""
    for instance in range(1, int(instances.max()) + 1):
        rows, columns = np.nonzero(instances == instance)
        if len(rows):
            top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
            inside = np.packbits(instances[top:bottom, left:right] == instance).tobytes()
            yield Region("mask", int(left), int(top), int(right), int(bottom), inside)


def random_box(rng: random.Random, *, height: int, width: int) -> Region:
    """Centre, width and height uniform (PowerCLIP-R), cut at the border; at least an eighth of each side."""

    def interval(size: int) -> tuple[int, int]:
        centre, extent = rng.random(), rng.uniform(0.125, 1)
        low, high = max(0.0, centre - extent / 2), min(1.0, centre + extent / 2)
        start = min(round(low * size), size - 1)
        return start, max(start + 1, round(high * size))

    (left, right), (top, bottom) = interval(width), interval(height)
    return Region("box", left, top, right, bottom)


def _write(path: Path, rows: list[ImageRegions]) -> None:
    table = pa.Table.from_pylist(
        [{**vars(row), "regions": [region._asdict() for region in row.regions]} for row in rows], schema=SCHEMA
    )
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_regions(directory: str | Path) -> dict[str, ImageRegions]:
    """Key -> regions; raises VlalignError when a file that the manifest names is missing."""
    found = {}
    for shard in read_manifest(directory)["shards"]:
        path = Path(directory) / shard["name"]
        if not path.is_file():
            raise VlalignError(
                f"{path} is named in the manifest beside it but missing; delete the manifest and run again"
            )
        table = pq.read_table(path)
        sizes = (table[name].to_pylist() for name in ("key", "height", "width"))
        for row in zip(*sizes, structs(table, "regions", Region), strict=True):
            found[row[0]] = ImageRegions(*row)
    return found
