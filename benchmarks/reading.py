"""Random access to many shards: how soon the first batch is there, and what a loader holds in memory over an epoch.

python benchmarks/reading.py                  # 100,000 samples in 20 shards, about three minutes
python benchmarks/reading.py --samples 20000

The pictures are noise, as JPEG files, and the captions are the embedded grammar's, with the phrases that its own trees
give; random boxes are drawn as regions. Nothing is kept from one batch to the next. The same captions and pictures are
then read in their order by WebDataset, decoded, resized and tokenized likewise, which has no phrases and no regions.
"""

import argparse
import io
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import webdataset
from PIL import Image
from rich.console import Console
from rich.table import Table

from vlalign import models
from vlalign.annotate.phrases.phrase_files import PackedParse, write_phrase_file
from vlalign.annotate.phrases.trees import Constituent, Parse, Word
from vlalign.data.samples import Sample
from vlalign.data.scenes.grammar import sample_trees, text
from vlalign.data.shards.index import captions_of
from vlalign.data.shards.manifest import write_split
from vlalign.data.shards.split import read_manifest
from vlalign.models.pictures import fit
from vlalign.params import PhraseChoice, RegionChoice
from vlalign.records import stamp, write_record
from vlalign.training.data.batches import PairedSet
from vlalign.training.data.loading import Steps, load

TOWER = Path(__file__).parents[1] / "config" / "towers" / "tiny.json"
BATCH = 256


def samples(count: int, side: int) -> Iterator[Sample]:
    """Pictures of noise that compress as photographs do, each with a caption of its own number."""
    rng, draw = np.random.default_rng(0), random.Random(0)
    captions = [text(tree) for tree in sample_trees(2000, seed=0)]
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8))
        stream = io.BytesIO()
        coarse.resize((side, side * 3 // 4), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
        yield Sample(f"{number:09d}", stream.getvalue(), (f"{draw.choice(captions)} {number}",), suffix="jpg")


def write_phrases(split: Path, output: Path) -> None:
    """Each word with its neighbour as a phrase: as many as a parser finds, without waiting for it."""
    names = [Path(shard["name"]).with_suffix(".arrow").name for shard in read_manifest(split)["shards"]]
    for name, shard in zip(names, read_manifest(split)["shards"], strict=True):
        found = captions_of(split, shard)
        rows = [(key, [(caption, PackedParse.of(parsed(caption))) for caption in captions]) for key, captions in found]
        write_phrase_file(output / name, rows, metadata={})
    write_record(output / "manifest.json", {"shards": [{"name": name, **stamp(output / name)} for name in names]})


def parsed(caption: str) -> Parse:
    places, start = [], 0
    for word in caption.split(" "):
        places.append(Word(start, start + len(word), word, "NN"))
        start += len(word) + 1
    return Parse(tuple(places), tuple(Constituent("NP", k, k + 2) for k in range(len(places) - 1)))


def resident(process: int) -> float:
    """MiB of memory that a process has."""
    fields = dict(line.split(":") for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) / 1024


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--side", type=int, default=96, help="of the pictures, in pixels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    encoder = models.create(json.loads(TOWER.read_text()), pooling="average")
    with tempfile.TemporaryDirectory() as name:
        split, phrases = Path(name) / "split", Path(name) / "phrases"
        made = samples(options.samples, options.side)
        size = -(-options.samples // options.shards)
        write_split(split, made, source={}, shard_size=size, needs=("image", "captions"))
        write_phrases(split, phrases)
        Console().print(read(split, phrases, encoder), ordered(split, encoder))


def read(split: Path, phrases: Path, encoder: models.DualEncoder) -> Table:
    """An epoch through one loader process."""
    started = time.perf_counter()
    choice = {"phrase_choice": PhraseChoice(), "region_choice": RegionChoice(kinds=("box",))}
    data = PairedSet(split, encoder, phrases=phrases, room=0, **choice)
    steps = Steps(data, seed=0, size=BATCH, share=lambda rows: rows)
    count = data.steps_per_epoch(BATCH)
    batches = iter(load(steps, range(count), workers=1, pinned=False))
    next(batches)
    first = time.perf_counter() - started
    worker = batches._workers[0].pid
    table = Table("share of the epoch", "MiB of the loader", "of the first", title=f"{len(data)} samples, one loader")
    marks = {count // 20: "5 %", count // 4: "25 %", count // 2: "50 %", 3 * count // 4: "75 %", count - 1: "100 %"}
    seen: list[float] = []
    for number, _ in enumerate(batches, start=1):
        if number in marks:
            seen.append(resident(worker))
            table.add_row(marks[number], f"{seen[-1]:.0f}", f"{seen[-1] / seen[0]:.3f}")
    pace = len(data) / (time.perf_counter() - started)
    table.caption = f"First batch of {BATCH} after {first:.2f} s; {pace:.0f} pairs/s."
    return table


def ordered(split: Path, encoder: models.DualEncoder) -> str:
    """Pairs per second of WebDataset's own loop in one process, of pictures and tokens alone."""
    shards = [str(split / shard["name"]) for shard in read_manifest(split)["shards"][:4]]
    pairs = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("jpg", "txt")
    started, count = time.perf_counter(), 0
    for picture, caption in pairs:
        fit(picture.convert("RGB"), encoder.image_size)
        encoder.tokenizer([caption])
        count += 1
    return f"WebDataset, in order: {count / (time.perf_counter() - started):.0f} pairs/s of pictures and tokens."


if __name__ == "__main__":
    main()
