import csv
import json

import numpy as np
from PIL import Image

from vlalign.data.packing.entries import entries
from vlalign.data.skipped import Skips
from vlalign.data.sources.table import TableSource


def noise(seed):
    """What a small picture shows."""
    return np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)


def picture(path, *, seed=0):
    """A small real picture, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed)).save(path)
    return path


def pictures(folder, *names):
    for seed, name in enumerate(names):
        picture(folder / name, seed=seed)


def write_csv(path, rows, header=("image", "caption"), **options):
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, **options).writerows([header, *rows])
    return path


def write_json(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def table_source(path, **options):
    return TableSource(source="table", table=str(path), **options)


def listed(source):
    """([(name, captions or label)], skips) of all entries."""
    skips = Skips()
    found = [(entry.name, entry.captions if entry.label is None else entry.label) for entry in entries(source, skips)]
    return found, skips.as_dict()


def counts(skips):
    return {cause: entry["count"] for cause, entry in skips.items()}
