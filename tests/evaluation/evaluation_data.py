"""A dataset of coloured squares with captions, phrases, prompts and hard negatives, in the formats on disk."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from vlalign import models
from vlalign.annotate.phrases.annotation import ParsedCaption, Word
from vlalign.data.samples import Sample, encode_png
from vlalign.data.shards.manifest import write_split
from vlalign.files import json_text, write_text
from vlalign.records import read_record, stamps, write_record

COLOURS = {"red": (229, 57, 53), "green": (67, 160, 71), "blue": (30, 120, 229), "yellow": (253, 200, 30)}
TOWER = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def encoder(*, seed: int = 0) -> models.DualEncoder:
    torch.manual_seed(seed)
    return models.create(TOWER, pooling="average").eval()


def picture(left: str, right: str | None = None, *, size: int = 32) -> tuple[bytes, bytes]:
    """PNG bytes of one or two squares on white, and of their label map."""
    image = np.full((size, size, 3), 250, np.uint8)
    labels = np.zeros((size, size), np.uint8)
    for number, (name, column) in enumerate(zip((left, right), (0, size // 2), strict=True), start=1):
        if name is not None:
            window = np.s_[: size // 2, column : column + size // 2]
            image[window], labels[window] = COLOURS[name], number
    return encode_png(image), encode_png(labels)


def squares(count: int, *, size: int = 32) -> Iterator[Sample]:
    """Two squares each; the captions name both, or the left one."""
    names = list(COLOURS)
    for index in range(count):
        left, right = names[index % 4], names[(index + 1 + index // 4 % 3) % 4]
        image, instances = picture(left, right, size=size)
        both, one = f"a {left} square and a {right} square {index}", f"a {left} square {index}"
        end = len(f"a {left} square")
        first = {"start": 0, "end": end, "kind": "one", "instances": [1]}
        pair = {"start": 0, "end": both.rindex(" "), "kind": "conjunction", "instances": [1, 2]}
        phrases = [{"caption": 0, **first}, {"caption": 0, **pair}, {"caption": 1, **first}]
        meta = {"stratum": "even" if index % 2 == 0 else "odd", "phrases": phrases}
        yield Sample(f"k{index:03d}", image, (both, one), meta=meta, instances=instances)


def parsed(sample: Sample) -> list[ParsedCaption]:
    """Each caption cut at white space."""
    return [
        ParsedCaption(
            key=sample.key,
            caption_index=index,
            caption=caption,
            words=tuple(Word(m.start(), m.end(), m.group(), "NN") for m in re.finditer(r"\S+", caption)),
            constituents=(),
            skipped=None,
        )
        for index, caption in enumerate(sample.captions)
    ]


def write_zeroshot(directory: Path, *, count: int = 12, splits: tuple[str, ...] = ("validation", "test")) -> None:
    names = list(COLOURS)
    write_text(directory / "classnames.txt", "\n".join(names) + "\n")
    write_text(directory / "zeroshot_classification_templates.txt", "a {c} square\nthe {c} one\n")
    for split in splits:
        samples = [Sample(f"z{i:02d}", picture(names[i % 4])[0], label=i % 4) for i in range(count)]
        files = {"nshards.txt": "1\n"} | {f"../{p.name}": p.read_text() for p in sorted(directory.glob("*.txt"))}
        write_split(directory / split, samples, source={}, shard_name="{}.tar", files=lambda files=files: files)


def vouch(zeroshot: Path) -> None:
    """Let the manifests of all splits name the class lists and counts as they are now."""
    for split in (path.parent for path in zeroshot.glob("*/manifest.json")):
        names = [os.path.relpath(path, split) for folder in (split, zeroshot) for path in folder.glob("*.txt")]
        write_record(split / "manifest.json", {**read_record(split / "manifest.json"), "files": stamps(split, names)})


def write_composition(directory: Path) -> None:
    names = [("red", "blue"), ("blue", "red"), ("green", "red")]
    captions = {"caption": "a red square and a blue square", "negative_caption": "a blue square and a red square"}
    item = {"filename": "c0.png", "negative_filename": "c1.png", **captions}
    items = {"swap.json": {"0": item}, "replace.json": {"0": {"filename": "c2.png", **captions}}}
    samples = [Sample(f"c{i}", picture(*pair)[0]) for i, pair in enumerate(names)]
    write_split(directory, samples, source={}, files=lambda: {name: json_text(value) for name, value in items.items()})
