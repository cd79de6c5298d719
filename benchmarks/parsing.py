"""Captions parsed per second of one core: `parse_split` beside Stanza called once for each caption, same models.

The captions are the embedded grammar's, all different or each ten times, in shards of a temporary folder without
pictures. Stanza's pace is taken on a sample before, between and after, the captions being cut into words already;
vlalign's is that of the whole step, which also loads the models, reads the shards, cleans and cuts the captions and
writes the files. Seconds are the processor's, so that other programs do not matter.

    vlalign parser annotate.parser.trees=800 annotate.parser.epochs=3 --output data/parser
    python benchmarks/parsing.py --model data/parser                     # 100,000 captions: about four minutes
    python benchmarks/parsing.py --model data/parser --captions 20000
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console
from rich.table import Table

from vlalign.annotate.phrases.annotation import PhraseFile, parse_split, read_phrases
from vlalign.annotate.phrases.stanza_models import load_pipelines
from vlalign.annotate.phrases.tokens import clean_caption
from vlalign.annotate.phrases.words import cut_english
from vlalign.data.samples import Sample
from vlalign.data.scenes.grammar import sample_trees, text
from vlalign.data.shards.manifest import write_split
from vlalign.data.shards.split import read_manifest

TIMES = 10


def one_by_one(pipeline: Any, captions: Sequence[str]) -> float:
    """Captions per second, each in a call of its own."""
    cuts = [cut_english(clean_caption(caption)) for caption in captions]
    sentences = [[cut.texts[first:last] for first, last in cut.sentences] for cut in cuts]
    started = time.process_time()
    for caption in sentences:
        pipeline(caption)
    return len(captions) / (time.process_time() - started)


def write_shards(folder: Path, captions: Sequence[str], shards: int) -> Path:
    """One sample for each caption, without a picture."""
    samples = (Sample(f"{number:09d}", b"", (caption,)) for number, caption in enumerate(captions))
    write_split(folder, samples, source={}, shard_size=-(-len(captions) // shards), needs=("captions",))
    return folder


def step(split: Path, model_dir: Path, output: Path) -> float:
    """Captions per second of the whole step."""
    started = time.process_time()
    parse_split(split, model_dir, output, device="cpu")
    return read_manifest(output)["counts"]["captions"] / (time.process_time() - started)


def reading(output: Path, rows: int = 2000) -> Iterator[tuple[str, str]]:
    """What the files take, and how long reading takes."""
    manifest = read_manifest(output)
    captions = manifest["counts"]["captions"]
    yield "bytes per caption", f"{sum(shard['bytes'] for shard in manifest['shards']) / captions:.0f}"
    file = PhraseFile(output / manifest["shards"][0]["name"])
    places = random.Random(0).choices(range(len(file)), k=rows)
    started = time.process_time()
    for place in places:
        file[place]
    yield "microseconds per caption, one at random", f"{(time.process_time() - started) / rows * 1e6:.0f}"
    started = time.process_time()
    read_phrases(output)
    yield "microseconds per caption, all", f"{(time.process_time() - started) / captions * 1e6:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="Stanza model folder, as `vlalign parser` makes it")
    parser.add_argument("--captions", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--sample", type=int, default=500, help="captions of each sample of one call per caption")
    parser.add_argument("--classes", type=int, default=20, help="of the grammar, as the model's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    distinct = [text(tree) for tree in sample_trees(options.captions, seed=1, classes=options.classes)]
    repeated = distinct[: options.captions // TIMES] * TIMES
    random.Random(0).shuffle(repeated)
    pipeline, _ = load_pipelines(options.model, device="cpu")
    sample = random.Random(1).sample(distinct, options.sample)
    one_by_one(pipeline, sample[:20])
    table = Table("captions per second", "vlalign", "one call per caption", "ratio")
    with tempfile.TemporaryDirectory() as folder:
        paces = [one_by_one(pipeline, sample)]
        for name, captions in (("all different", distinct), (f"each {TIMES} times", repeated)):
            split = write_shards(Path(folder) / name, captions, options.shards)
            pace = step(split, options.model, Path(folder) / "phrases" / name)
            paces.append(one_by_one(pipeline, sample))
            beside = statistics.mean(paces[-2:])
            table.add_row(f"{len(captions):,} {name}", f"{pace:.0f}", f"{beside:.1f}", f"{pace / beside:.1f}")
        Console().print(table)
        for name, value in reading(Path(folder) / "phrases" / "all different"):
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
