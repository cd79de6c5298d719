"""Images and captions without a partner, which join the distributions that divergences compare."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from vlalign.data.shards.split import Split
from vlalign.errors import VlalignError
from vlalign.models import DualEncoder
from vlalign.params import AugmentParams
from vlalign.training.data.caption_rows import Captions
from vlalign.training.data.frozen_rows import FrozenCaptions, FrozenPictures
from vlalign.training.data.order import epoch_order, generator
from vlalign.training.data.picture_rows import Pictures
from vlalign.training.data.row_cache import MadeRows, Make

Share = Callable[[Tensor], Tensor]


class Stream:
    """Samples of a split whose partners are not used: so many in every step, in an order of their own.

    Args:
        directory: folder of the split.
        size: samples of a step.
        encoder: whose tokenizer and sizes are used.
        features: folder with what frozen towers gave, which then takes the place of pictures and captions.
        first: the first so many samples of the split are left out.
        augment: how every epoch sees another part of each picture.
    """

    needs: ClassVar[str]

    def __init__(
        self,
        directory: str | Path,
        size: int,
        encoder: DualEncoder,
        *,
        features: Path | None = None,
        first: int = 0,
        augment: AugmentParams | None = None,
    ) -> None:
        self.split, self.size, self.first = Split(directory), size, first
        self.split.require(self.needs)
        self.rows = MadeRows(self.maker(encoder, features, augment))
        self.count = len(self.split) - first
        if size > self.count:
            kept = f" beside the {first} of train.pairs" if first else ""
            raise VlalignError(
                f"a step takes {size} samples of {directory}, which has {max(self.count, 0)}{kept}; lower "
                "`unpaired` of the objective's divergences"
            )

    def maker(self, encoder: DualEncoder, features: Path | None, augment: AugmentParams | None) -> Make:
        """What makes the row of one item."""
        raise NotImplementedError

    def __call__(self, seed: int, step: int, share: Share) -> Tensor:
        """This process's share of a step."""
        raise NotImplementedError

    def draw(self, seed: int, step: int) -> tuple[Tensor, str]:
        """The samples of a step, and what is drawn of them depends on."""
        epoch, position = divmod(step, self.count // self.size)
        order = epoch_order(self.count, seed, epoch, key=f"unpaired {self.needs}")
        return self.first + order[position * self.size : (position + 1) * self.size].long(), f"{seed}/{epoch}/unpaired"


class UnpairedImages(Stream):
    """Pictures, uint8 E 3 H W, or their features."""

    needs = "image"

    def maker(self, encoder: DualEncoder, features: Path | None, augment: AugmentParams | None) -> Make:
        """See Stream."""
        return FrozenPictures(self.split, features) if features else Pictures(self.split, encoder, augment)

    def __call__(self, seed: int, step: int, share: Share) -> Tensor:
        """This process's share of a step."""
        images, when = self.draw(seed, step)
        (pixels,) = self.rows(share(images).tolist(), when)
        return pixels


class UnpairedCaptions(Stream):
    """Token ids, E L, or features; of several captions of one sample, one is drawn."""

    needs = "captions"

    def maker(self, encoder: DualEncoder, features: Path | None, augment: AugmentParams | None) -> Make:
        """See Stream."""
        kept = features if encoder.lora is None else None
        return FrozenCaptions(self.split, kept) if kept else Captions(self.split, encoder)

    def __call__(self, seed: int, step: int, share: Share) -> Tensor:
        """This process's share of a step."""
        samples, when = self.draw(seed, step)
        draw = torch.rand(len(samples), generator=generator(seed, "unpaired caption", step))
        numbers = [
            sample * self.split.most_captions + int(number * self.split.caption_count(sample))
            for sample, number in zip(share(samples).tolist(), share(draw).tolist(), strict=True)
        ]
        (tokens,) = self.rows(numbers, when)
        return tokens
