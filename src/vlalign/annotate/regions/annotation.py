"""Regions of every image: object masks where the data have them and they are wanted, elsewhere the segments that are
found in it (PowerCLIP-S).

They are kept on a grid of cells over the whole image, one file for each shard, joined by key; the patch grid is the
reader's affair. Random boxes (PowerCLIP-R) are no annotation: training draws new ones in every epoch.
"""

import functools
import io
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from vlalign.annotate.regions.masks import decode_mask, encode_mask, grid_shape, reduce_mask
from vlalign.console import progress
from vlalign.data.arrow import INPUTS, read_batch, read_metadata, write_batch
from vlalign.data.samples import Sample, decode_image, decode_instances
from vlalign.data.shards.index import samples_of
from vlalign.data.shards.split import annotation_path, check_place, part_of, read_manifest, refuse_data
from vlalign.data.shards.tar import batched
from vlalign.errors import VlalignError
from vlalign.files import remove_temporary, write_json
from vlalign.params import RegionsParams, Segmenter, digest
from vlalign.records import Stamp, stamp, write_record

# Raised whenever equal shards and params would give other regions, so that files of an older version are made again.
VERSION = 1
EDGES = ("left", "top", "right", "bottom")
BOX = pa.struct({**dict.fromkeys(EDGES, pa.uint16()), "bytes": pa.uint32()})
# The masks of an image are compressed together, which takes a third off them; any image can be read by itself.
SCHEMA = pa.schema(
    {"key": pa.string(), "height": pa.uint16(), "width": pa.uint16(), "boxes": pa.list_(BOX), "masks": pa.binary()}
)
FindSegments = Callable[[Sequence[Image.Image]], list[np.ndarray]]


class Region(NamedTuple):
    """A box in cells (right and bottom exclusive) and the mask inside it, as `encode_mask` writes it."""

    left: int
    top: int
    right: int
    bottom: int
    mask: bytes

    def fill(self, canvas: np.ndarray) -> None:
        """Set the region's cells of a bool canvas H W."""
        window = canvas[self.top : self.bottom, self.left : self.right]
        window[:] = decode_mask(self.mask, window.shape)


@dataclass(frozen=True)
class ImageRegions:
    """The regions of one image, in order of preference, on a grid of `height` x `width` cells over the whole of it."""

    key: str
    height: int
    width: int
    regions: tuple[Region, ...]

    def masks(self, count: int | None = None, draw: random.Random | None = None) -> np.ndarray:
        """Bool masks R H W of the first `count` regions, or of as many that are drawn from all of them."""
        chosen = self.regions[:count]
        if draw is not None and count is not None:
            chosen = tuple(draw.sample(self.regions, min(count, len(self.regions))))
        masks = np.zeros((len(chosen), self.height, self.width), bool)
        for region, canvas in zip(chosen, masks, strict=True):
            region.fill(canvas)
        return masks


def annotate_split(
    split: str | Path, output: str | Path, params: RegionsParams, *, part: str | None = None, device: str = "auto"
) -> None:
    """Write the regions of every shard of `split`, then the manifest with counts.

    Args:
        part: "K-of-N" for every N-th shard from the K-th on, with `parts/K-of-N.json` in place of the manifest; files
            that were made from the same shard with the same params are kept.
        device: where a model segments, as torch names it; auto: a GPU if there is one.

    Raises VlalignError when a shard is missing or a model cannot be loaded.
    """
    split, output = Path(split), Path(output)
    manifest = read_manifest(split)
    check_place(split, manifest)
    every = manifest["shards"]
    refuse_data(output)
    shards = part_of(every, part)
    load = functools.cache(lambda: params.segments.load(side=params.side, device=device))
    with progress("finding regions", total=sum(shard["samples"] for shard in shards)) as advance:
        for shard in shards:
            path, inputs = annotation_path(output, shard), _inputs(shard, params)
            if read_metadata(path).get(INPUTS) != inputs:
                write_regions(path, _shard_regions(split, shard, params, load()), inputs=inputs)
            advance(shard["samples"])
    if part is not None:
        write_json(output / "parts" / f"{part}.json", {"shards": len(shards)})
        return
    _write_manifest(output, every, params, made_of=stamp(split / "manifest.json")["sha256"])


def _inputs(shard: dict[str, Any], params: RegionsParams) -> bytes:
    files = _file_digests(params.segments)
    return digest([VERSION, shard["sha256"], shard["limits"], params.relevant(), *([files] if files else [])]).encode()


@functools.cache
def _file_digests(segmenter: Segmenter) -> dict[str, str]:
    """SHA-256 of the files that a segmenter depends on."""
    return {name: stamp(path)["sha256"] for name, path in segmenter.files().items()}


def _write_manifest(output: Path, shards: Sequence[dict[str, Any]], params: RegionsParams, *, made_of: str) -> None:
    entries, regions, without, size = [], 0, 0, 0
    for shard in shards:
        file = RegionFile(annotation_path(output, shard))
        counts, total = file.counts()
        inputs = _inputs(shard, params).decode()
        entries.append({"name": file.path.name, "images": len(counts), "inputs": inputs, **stamp(file.path)})
        regions, without, size = regions + int(counts.sum()), without + int((counts == 0).sum()), size + total
    for stale in set(output.glob("*.arrow")) - {annotation_path(output, shard) for shard in shards}:
        stale.unlink()
    remove_temporary(output)
    told = {"split": made_of, "regions": regions, "images_without_regions": without, "bytes": size}
    write_record(output / "manifest.json", {"shards": entries, **told, "params": params.relevant()})


def _shard_regions(
    split: Path, shard: dict[str, Any], params: RegionsParams, find: FindSegments | None
) -> Iterator[ImageRegions]:
    for samples in batched(samples_of(split, shard), params.batch_size):
        if not params.own_masks:
            samples = [replace(sample, instances=None) for sample in samples]
        pictures = [decode_image(sample.image) for sample in samples]
        bare = [index for index, sample in enumerate(samples) if sample.instances is None]
        found = find([pictures[index] for index in bare]) if find and bare else []
        segments = dict(zip(bare, found, strict=False))
        for index, (sample, picture) in enumerate(zip(samples, pictures, strict=True)):
            yield image_regions(sample, picture, side=params.side, segments=segments.get(index, ()))


def image_regions(
    sample: Sample, picture: Image.Image, *, side: int, segments: Iterable[np.ndarray] = ()
) -> ImageRegions:
    """Masks of the sample's objects, or else the segments of its picture: bool H W on a grid of `side`, best first."""
    height, width = grid_shape(picture.height, picture.width, side=side)
    if sample.instances is not None:
        instances = decode_instances(sample.instances)
        if instances.shape != (picture.height, picture.width):
            raise VlalignError(f"'{sample.key}': its map of objects is not of its picture's size; correct or remove it")
        # In the order of the ids; empty where other objects hide one.
        every = range(1, int(instances.max()) + 1)
        segments = [reduce_mask(instances == instance, (height, width)) for instance in every]
    return ImageRegions(sample.key, height, width, tuple(_region(mask_HW) for mask_HW in segments if mask_HW.any()))


def _region(mask_HW: np.ndarray) -> Region:
    """Cut to its bounding box."""
    rows, columns = (np.flatnonzero(mask_HW.any(axis)) for axis in (1, 0))
    left, top, right, bottom = (int(edge) for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return Region(left, top, right, bottom, encode_mask(mask_HW[top:bottom, left:right]))


def write_regions(path: Path, rows: Iterable[ImageRegions], *, inputs: bytes = b"") -> None:
    """Write one shard's regions; `inputs` tells what they were made from."""
    packed = []
    for row in rows:
        boxes = [{**region._asdict(), "bytes": len(region.mask)} for region in row.regions]
        masks = zlib.compress(b"".join(region.mask for region in row.regions), 9)
        packed.append({"key": row.key, "height": row.height, "width": row.width, "boxes": boxes, "masks": masks})
    write_batch(path, pa.RecordBatch.from_pylist(packed, schema=SCHEMA.with_metadata({INPUTS: inputs})))


class RegionFile:
    """The regions of one shard, of which only those of the images that are asked for are read.

    expected: the file's size and SHA-256, as the manifest has them.
    Raises VlalignError when the file is missing, broken or another one.
    """

    def __init__(self, path: Path, expected: Stamp | None = None) -> None:
        self.path = path
        self.rows = read_batch(path, manifest=path.parent / "manifest.json", expected=expected)
        self.keys = self.rows.column("key")

    def __len__(self) -> int:
        return self.rows.num_rows

    def __getitem__(self, row: int) -> ImageRegions:
        key, height, width, boxes, masks = (self.rows.column(name)[row].as_py() for name in SCHEMA.names)
        content = io.BytesIO(zlib.decompress(masks))
        regions = (Region(**{edge: box[edge] for edge in EDGES}, mask=content.read(box["bytes"])) for box in boxes)
        return ImageRegions(key, height, width, tuple(regions))

    def counts(self) -> tuple[np.ndarray, int]:
        """How many regions each image has, and the bytes that boxes and masks of all images take."""
        boxes, masks = self.rows.column("boxes"), self.rows.column("masks")
        return np.diff(boxes.offsets.to_numpy()), boxes.nbytes + masks.nbytes
