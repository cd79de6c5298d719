"""Images and captions without a partner, which join the distributions that the CS divergence compares."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vlalign.data.shards.split import Split
from vlalign.errors import VlalignError
from vlalign.models import DualEncoder
from vlalign.params import AugmentParams
from vlalign.training.data.caption_rows import Captions
from vlalign.training.data.order import epoch_order, generator
from vlalign.training.data.picture_rows import Pictures
from vlalign.training.data.row_cache import MadeRows

Share = Callable[[Tensor], Tensor]


class Stream:
    """A split of images alone, or of captions alone: so many in every step, in an order of its own."""

    def __init__(self, directory: str | Path, size: int, *, needs: str) -> None:
        self.split, self.size, self.needs = Split(directory), size, needs
        self.split.require(needs)
        if size > len(self.split):
            raise VlalignError(
                f"a step takes {size} samples of {directory}, which has {len(self.split)}; lower objective.cs.unpaired"
            )

    def draw(self, seed: int, step: int) -> tuple[Tensor, str]:
        """The samples of a step, and what is drawn of them depends on."""
        epoch, position = divmod(step, len(self.split) // self.size)
        order = epoch_order(len(self.split), seed, epoch, key=f"unpaired {self.needs}")
        return order[position * self.size : (position + 1) * self.size].long(), f"{seed}/{epoch}/unpaired"


class UnpairedImages:
    """Pictures of a stream, uint8 E 3 H W."""

    def __init__(
        self, directory: str | Path, size: int, encoder: DualEncoder, *, augment: AugmentParams | None = None
    ) -> None:
        self.stream = Stream(directory, size, needs="image")
        self.rows = MadeRows(Pictures(self.stream.split, encoder, augment))

    def __call__(self, seed: int, step: int, share: Share) -> Tensor:
        """This process's share of a step."""
        images, when = self.stream.draw(seed, step)
        (pixels,) = self.rows(share(images).tolist(), when)
        return pixels


class UnpairedCaptions:
    """Token ids of a stream, E L; of several captions of one sample, one is drawn."""

    def __init__(self, directory: str | Path, size: int, encoder: DualEncoder) -> None:
        self.stream = Stream(directory, size, needs="captions")
        self.rows = MadeRows(Captions(self.stream.split, encoder))

    def __call__(self, seed: int, step: int, share: Share) -> Tensor:
        """This process's share of a step."""
        samples, when = self.stream.draw(seed, step)
        split = self.stream.split
        draw = torch.rand(len(samples), generator=generator(seed, "unpaired caption", step))
        numbers = [
            sample * split.most_captions + int(number * split.caption_count(sample))
            for sample, number in zip(share(samples).tolist(), share(draw).tolist(), strict=True)
        ]
        (tokens,) = self.rows(numbers, when)
        return tokens
