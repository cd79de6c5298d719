"""A few scenes with regions, and with the phrases that a perfect parser would find, on disk."""

import re

import pyarrow as pa
import pyarrow.parquet as pq

from vlalign.annotate import phrases
from vlalign.annotate.regions import annotate_split
from vlalign.data.scenes import split_samples
from vlalign.data.splits import read_split, write_split
from vlalign.files import write_json
from vlalign.params import RegionsParams, ScenesParams

COUNT = 14
PARAMS = ScenesParams(image_size=32, captions=3, classes=8)


def words_of(caption):
    return [
        {"start": match.start(), "end": match.end(), "text": match.group(), "tag": "NN"}
        for match in re.finditer(r"\S+", caption)
    ]


def constituents_of(sample, number, words):
    starts, ends = [word["start"] for word in words], [word["end"] for word in words]
    for phrase in sample.meta["phrases"]:
        if phrase["caption"] == number:
            first, last = starts.index(phrase["start"]), ends.index(phrase["end"]) + 1
            yield {"label": "NP", "first": first, "last": last, "start": phrase["start"], "end": phrase["end"]}


def phrase_rows(sample):
    for number, caption in enumerate(sample.captions):
        words = words_of(caption)
        parts = list(constituents_of(sample, number, words))
        row = {"key": sample.key, "caption_index": number, "caption": caption, "skipped": None}
        yield {**row, "words": words, "constituents": parts}


def write_phrases(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=phrases.SCHEMA), folder / "000000.parquet")
    write_json(folder / "manifest.json", {"shards": [{"name": "000000.parquet"}]})


def write_annotated(folder, *, images=COUNT):
    """`split`, `phrases` and `regions` below `folder`."""
    write_split(folder / "split", split_samples("train", images, PARAMS), source={}, shard_size=5)
    write_phrases(folder / "phrases", (row for sample in read_split(folder / "split") for row in phrase_rows(sample)))
    annotate_split(folder / "split", folder / "regions", RegionsParams(boxes=4))
