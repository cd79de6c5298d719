"""Splits as shards that CLIP_benchmark and open_clip's trainer read as they are.

CLIP_benchmark takes every line of a `.txt` as a caption; open_clip's trainer takes all of it as one. Neither turns a
picture as its EXIF block says, nor reads all formats of images that are read here.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vlalign.data.samples import Sample, decode_image, encode_png, open_image, orientation
from vlalign.data.shards.class_files import class_file
from vlalign.data.shards.split import read_split
from vlalign.data.shards.tar import batched, write_shard
from vlalign.errors import VlalignError
from vlalign.files import check_writable, write_json, write_text
from vlalign.params.data import CLASS_FILES

Captions = Literal["all", "first", "each"]
# Files of formats that both programs read.
READ_BY_OTHERS = ("png", "jpg", "jpeg", "webp")
COUNT, TYPE, SIZES = "nshards.txt", "dataset_type.txt", "sizes.json"


def export_shards(split: Path, output: Path, *, captions: Captions = "all", shard_size: int = 2000) -> dict[str, int]:
    """Write the samples of a split as `<output>/<split's name>/0.tar`, `1.tar`, ...

    captions: `all` in each `.txt`, one a line; the `first` alone; or a sample for `each`, with the picture again. With
    `first` and `each` the `.json` has all of them.

    Beside the shards stand their number and sizes, and in `output` what kind of data they are and the names and
    templates of classes. The number is written last: without it CLIP_benchmark takes nothing for the split.
    Returns how many samples each shard has, by name.
    Raises VlalignError when there is no such split, samples have neither captions nor a class, classes have no names,
    or `output` holds a split of the workflow or data of another kind.
    """
    if not (split / "manifest.json").is_file():
        raise VlalignError(f"{split} is no split that was verified: it has no manifest.json; correct --split or --data")
    kind = _kind(split)
    folder = output / split.name
    _check_place(folder, kind)
    (folder / COUNT).unlink(missing_ok=True)
    sizes = {}
    for number, batch in enumerate(batched(_samples(split, captions), shard_size)):
        sizes[f"{number}.tar"] = len(batch)
        write_shard(folder / f"{number}.tar", batch)
    for stale in set(folder.glob("*.tar")) - {folder / name for name in sizes}:
        stale.unlink()
    if kind == "classification":
        for name in CLASS_FILES:
            write_text(output / name, class_file(split, name).read_text(encoding="utf-8"))
    write_text(output / TYPE, f"{kind}\n")
    # Where open_clip's trainer looks for the number of samples.
    write_json(folder / SIZES, sizes)
    write_text(folder / COUNT, f"{len(sizes)}\n")
    return sizes


def _kind(split: Path) -> str:
    """What CLIP_benchmark calls it: by the shards' captions and labels."""
    first = next(read_split(split), None)
    if first is None or (first.label is None and not first.captions):
        raise VlalignError(f"{split} has samples without captions and classes; there is nothing to export")
    return "retrieval" if first.label is None else "classification"


def _check_place(folder: Path, kind: str) -> None:
    check_writable(folder)
    if (folder / "manifest.json").exists() or (folder / "shards.json").exists():
        raise VlalignError(f"{folder} is a split of the workflow; give another --output")
    path = folder.parent / TYPE
    if path.is_file() and (found := path.read_text().strip()) != kind:
        raise VlalignError(f"{path} says {found}, and this split is for {kind}; give another --output")


def _samples(split: Path, captions: Captions) -> Iterator[Sample]:
    for sample in read_split(split):
        # CLIP_benchmark ends a line where Python does.
        lines = tuple(" ".join(caption.splitlines()) for caption in sample.captions)
        plain = replace(sample, captions=lines, instances=None, **_readable(sample))
        if captions == "all" or sample.label is not None:
            yield plain
            continue
        plain = replace(plain, meta={**sample.meta, "captions": list(lines)})
        if captions == "first":
            yield replace(plain, captions=lines[:1])
        else:
            yield from (replace(plain, key=f"{plain.key}-{k}", captions=(line,)) for k, line in enumerate(lines))


def _readable(sample: Sample) -> dict[str, Any]:
    """The picture as others read it just as it is read here: its own bytes, or those of a PNG."""
    if sample.suffix in READ_BY_OTHERS:
        with open_image(sample.image) as image:
            if orientation(image) == 1 and not image.mode.startswith("I;16"):
                return {}
    return {"image": encode_png(np.asarray(decode_image(sample.image))), "suffix": "png"}
