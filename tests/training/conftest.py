import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlalign.annotate.phrases import SCHEMA
from vlalign.annotate.regions import annotate_split
from vlalign.annotate.words import word_ranges
from vlalign.data.scenes import split_samples
from vlalign.data.shards import read_split, write_split
from vlalign.files import write_json
from vlalign.params import RegionsParams, ScenesParams
from vlalign.training.loop import Inputs

TOWER = json.loads((Path(__file__).parents[2] / "config" / "towers" / "test.json").read_text())


def write_phrases(split, output):
    """Every two neighbouring words as a phrase: what a parser would find does not matter here."""
    rows = []
    for sample in read_split(split):
        for index, caption in enumerate(sample.captions):
            words = [
                {"start": start, "end": end, "text": caption[start:end], "tag": "NN"}
                for start, end in word_ranges(caption)
            ]
            pairs = [{"label": "NP", "first": n, "last": n + 2, "start": 0, "end": 0} for n in range(len(words) - 1)]
            rows.append(
                {"key": sample.key, "caption_index": index, "caption": caption, "words": words, "constituents": pairs}
            )
    output.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), output / "000000.parquet")
    write_json(output / "manifest.json", {"shards": [{"name": "000000.parquet"}]})


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Forty annotated scenes."""
    root = tmp_path_factory.mktemp("annotated")
    scenes = ScenesParams(image_size=32, classes=6, captions=2)
    write_split(root / "train", split_samples("train", 40, scenes), source={})
    write_phrases(root / "train", root / "phrases")
    annotate_split(root / "train", root / "regions", RegionsParams(boxes=4))
    return Inputs(root / "train", root / "phrases", root / "regions")


@pytest.fixture
def config():
    """A run with every term of the objective, as the workflow hands it over."""

    def make(**train):
        params = {
            "model": {"tower": TOWER},
            "train": {"steps": 8, "batch_size": 8, "checkpoint_every": 3, "log_every": 2, **train},
            "objective": {"powerset": {"weight": 1.0, "aggregator": "sampled"}, "cs": {"weight": 0.1}},
        }
        return {"run": "test", "arm": "test", "ablation": None, "params": params}

    return make
