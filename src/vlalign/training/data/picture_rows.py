"""Pictures of a split as a tower wants them, and how its patches are covered by their regions."""

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlalign.annotate.regions.annotation import ImageRegions, RegionFile
from vlalign.annotate.regions.boxes import random_boxes
from vlalign.annotate.regions.damage import damaged
from vlalign.data.samples import decode_image
from vlalign.data.shards.split import Split
from vlalign.errors import VlalignError
from vlalign.models import DualEncoder
from vlalign.models.pictures import View, coverage
from vlalign.params import AugmentParams, RegionChoice


class Pictures:
    """Makes the row of one picture; with `augment` every epoch sees another part of it."""

    def __init__(self, split: Split, encoder: DualEncoder, augment: AugmentParams | None = None) -> None:
        self.split, self.view = split, View(encoder, augment)
        # Whether a picture's row is the same in every epoch.
        self.fixed = augment is None

    def __call__(self, image: int, when: str) -> tuple[Tensor, ...]:
        """uint8 3 H W."""
        return (self.view(self.picture(image), self.draw(image, when))[0],)

    def picture(self, image: int) -> Image.Image:
        """The whole picture; raises VlalignError when it was damaged after it was verified."""
        shard, row = self.split.locate(image)
        file = self.split.open(shard)
        try:
            return decode_image(file.image(row))
        except VlalignError as error:
            raise VlalignError(f"'{file.field('key', row)}' of {file.path}: {error}; verify the split again") from None

    def draw(self, image: int, when: str) -> random.Random:
        """Random numbers of a picture in an epoch."""
        return random.Random(f"{when}/{self.split.key(image)}")


class MaskedPictures(Pictures):
    """Makes the row of one picture with the masks of its regions.

    Args:
        regions: folder of the split's regions.
        choice: which of them enter.
    """

    def __init__(
        self,
        split: Split,
        encoder: DualEncoder,
        augment: AugmentParams | None = None,
        *,
        regions: Path,
        choice: RegionChoice,
    ) -> None:
        super().__init__(split, encoder, augment)
        self.grid, self.choice = encoder.grid, choice
        self.regions = split.annotations(regions, RegionFile, rule="regions")
        self.fixed = augment is None and choice.order == "first"

    def __call__(self, image: int, when: str) -> tuple[Tensor, ...]:
        """uint8 3 H W, and how each mask covers the patch grid, R V: zero where there are fewer."""
        file, row = self.regions.find(image)
        draw = self.draw(image, when)
        masks = self._masks(file[row], draw if self.choice.order == "random" else None)
        pixels, masks_RHW = self.view(self.picture(image), draw, torch.from_numpy(masks))
        covered = torch.zeros(self.choice.count, self.grid[0] * self.grid[1])
        covered[: len(masks)] = coverage(masks_RHW, self.grid)
        return pixels, covered

    def _masks(self, found: ImageRegions, draw: random.Random | None) -> np.ndarray:
        """Bool R H W of the chosen ones; damage depends on the picture alone, as the errors of a segmenter do."""
        count, damage = self.choice.count, self.choice.damage
        if not damage.is_any:
            return found.masks(count, draw)
        masks_RHW = damaged(found.masks(), damage, random.Random(f"damage/{found.key}"))
        rows = list(range(len(masks_RHW)))
        return masks_RHW[rows[:count] if draw is None else draw.sample(rows, min(count, len(rows)))]


def fill_with_boxes(coverage_IRV: Tensor, keys: list[str], when: str, grid: tuple[int, int]) -> Tensor:
    """Rows without any patch become random boxes, new ones in every epoch (PowerCLIP-R)."""
    for covered_RV, key in zip(coverage_IRV, keys, strict=True):
        empty = covered_RV.sum(1) == 0
        if empty.any():
            covered_RV[empty] = random_boxes(random.Random(f"{when}/boxes/{key}"), int(empty.sum()), grid)
    return coverage_IRV
