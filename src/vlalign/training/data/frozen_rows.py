"""Rows of a split that frozen towers have encoded: features in place of pictures and captions.

One file for each shard, joined by key; `vlalign.adaptation.features` writes them. A row is what
`vlalign.models.adapters.TowerFeatures.packed` gives of one picture or caption.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from vlalign.data.arrow import read_batch
from vlalign.data.shards.split import Split, read_manifest
from vlalign.records import Stamp

# Little-endian fp32, row by row; captions have as many rows as they have real tokens.
SCHEMA = pa.schema({"key": pa.string(), "image": pa.binary(), "captions": pa.list_(pa.binary())})


class FeatureFile:
    """The features of one shard; raises VlalignError when the file is missing, broken or another one."""

    def __init__(self, path: Path, expected: Stamp | None = None) -> None:
        self.path = path
        self.rows = read_batch(path, manifest=path.parent / "manifest.json", expected=expected)
        self.keys = self.rows.column("key")

    def image(self, row: int, channels: int) -> Tensor:
        """Packed features of a picture, (1 + V) (W + 1)."""
        return _tensor(self.rows.column("image")[row].as_buffer(), channels)

    def caption(self, row: int, index: int, channels: int) -> Tensor:
        """Packed features of a caption of this row, (1 + L) (W + 1)."""
        return _tensor(self.rows.column("captions")[row][index].as_buffer(), channels)


def _tensor(buffer: pa.Buffer, channels: int) -> Tensor:
    # A copy: the file is mapped, and cannot be written to.
    return torch.from_numpy(np.frombuffer(buffer, "<f4").copy()).view(-1, channels)


class _Rows:
    """Rows of a split; features: folder with those of this split."""

    # What a picture's row is the same in every epoch; features of cut pictures are not kept.
    fixed = True

    def __init__(self, split: Split, features: Path) -> None:
        self.split, self.most = split, split.most_captions
        self.shapes: dict[str, Any] = read_manifest(features)["shapes"]
        self.files = split.annotations(features, FeatureFile, rule="features")


class FrozenPictures(_Rows):
    """Makes the row of one picture."""

    def __call__(self, image: int, when: str) -> tuple[Tensor, ...]:
        """(1 + V) (W + 1)."""
        file, row = self.files.find(image)
        return (file.image(row, self.shapes["image"][1]),)


class FrozenCaptions(_Rows):
    """Makes the row of one caption; caption k of image i has the number i * most + k."""

    def __call__(self, number: int, when: str) -> tuple[Tensor, ...]:
        """(1 + L) (W + 1), with zeros below the tokens that there are."""
        image, index = divmod(number, self.most)
        file, row = self.files.find(image)
        found = file.caption(row, index, self.shapes["caption"][1])
        padded = found.new_zeros(self.shapes["caption"])
        padded[: len(found)] = found
        return (padded,)
