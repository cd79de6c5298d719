"""Pictures to tensors, and regions to the patch grid of a tower."""

import random
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.transforms.v2 import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as V

from vlalign.data.shards.tar import batched
from vlalign.models import DualEncoder
from vlalign.params import AugmentParams

MASK_BATCH = 64


def fit(picture: Image.Image, size: int, *, interpolation: str = "bicubic", resize_mode: str = "shortest") -> Tensor:
    """uint8 3 H W: the middle square, its side resized to `size`, or all of it (`squash`); just as open_clip does."""
    if picture.size != (size, size):
        target = [size, size] if resize_mode == "squash" else [size]
        picture = V.resize(picture, target, interpolation=InterpolationMode(interpolation))
        picture = V.center_crop(picture, [size, size])
    return V.pil_to_tensor(picture)


def fit_masks(masks_RHW: Tensor, size: int, *, resize_mode: str = "shortest") -> Tensor:
    """Masks moved exactly as `fit` moves their picture."""
    whole = masks_RHW.shape[2], masks_RHW.shape[1]
    return cut_masks(masks_RHW, whole, middle(whole, resize_mode=resize_mode), size)


def fit_for(encoder: DualEncoder, picture: Image.Image) -> Tensor:
    """`fit`, as this encoder wants its pictures."""
    how = {name: encoder.preprocess[name] for name in ("interpolation", "resize_mode")}
    return fit(picture, encoder.image_size, **how)


class View:
    """What an encoder sees of a picture and its masks: the middle, or what augmentation draws."""

    def __init__(self, encoder: DualEncoder, augment: AugmentParams | None = None) -> None:
        self.size = encoder.image_size
        self.how = {name: encoder.preprocess[name] for name in ("interpolation", "resize_mode")}
        self.mode = InterpolationMode(self.how["interpolation"])
        self.crop, self.flip = None, 0.0
        if augment is not None:
            self.crop, self.flip = RandomResizedCrop(self.size, augment.scale, augment.ratio), augment.flip

    def __call__(
        self, picture: Image.Image, draw: random.Random, masks_RHW: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """uint8 3 H W, and the masks, moved exactly as the picture is; functions of what `draw` gives next."""
        masks = torch.zeros(0, 1, 1, dtype=torch.bool) if masks_RHW is None else masks_RHW
        size = [self.size, self.size]
        if self.crop is None:
            box = middle(picture.size, resize_mode=self.how["resize_mode"])
            return fit(picture, self.size, **self.how), cut_masks(masks, picture.size, box, self.size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw.getrandbits(63))
            found = self.crop.make_params([picture])
        box = found["top"], found["left"], found["height"], found["width"]
        pixels = V.pil_to_tensor(V.resized_crop(picture, *box, size=size, interpolation=self.mode))
        seen = cut_masks(masks, picture.size, box, self.size)
        return (pixels.flip(-1), seen.flip(-1)) if draw.random() < self.flip else (pixels, seen)


def middle(picture_size: tuple[int, int], *, resize_mode: str) -> tuple[float, float, float, float]:
    """The part of a picture that `fit` shows: top, left, height and width in its pixels; of its width and height."""
    width, height = picture_size
    if resize_mode == "squash":
        return 0, 0, height, width
    side = min(width, height)
    return (height - side) / 2, (width - side) / 2, side, side


def cut_masks(
    masks_RHW: Tensor, picture_size: tuple[int, int], box: tuple[float, float, float, float], size: int
) -> Tensor:
    """Masks of a part of a picture, R size size: each pixel has the value of the mask's cell that its middle lies in.

    The masks may be coarser than the picture, and are never enlarged to it. picture_size: width and height.
    """
    width, height = picture_size
    top, left, tall, wide = box
    middles = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    rows = ((top + middles * tall) * masks_RHW.shape[1] / height).long().clamp(max=masks_RHW.shape[1] - 1)
    columns = ((left + middles * wide) * masks_RHW.shape[2] / width).long().clamp(max=masks_RHW.shape[2] - 1)
    return masks_RHW[:, rows][:, :, columns]


def preprocess(encoder: DualEncoder) -> Callable[[Sequence[Image.Image]], Tensor]:
    """The function that turns pictures into the normalised batch I 3 H W of this encoder."""

    return lambda pictures: normalise(torch.stack([fit_for(encoder, picture) for picture in pictures]), encoder)


def normalise(images_I3HW: Tensor, encoder: DualEncoder) -> Tensor:
    """uint8 pictures to the encoder's floats, with its mean and standard deviation."""
    like = encoder.logit_scale
    mean, std = (like.new_tensor(encoder.preprocess[name]).view(3, 1, 1) for name in ("mean", "std"))
    return (images_I3HW.to(like.dtype) / 255 - mean) / std


def coverage(masks_RHW: Tensor | np.ndarray, grid: tuple[int, int]) -> Tensor:
    """Share of each patch that each mask covers, R V in [0, 1]: a region is pooled with these weights."""
    masks = torch.as_tensor(np.ascontiguousarray(masks_RHW))
    if not len(masks):
        return torch.zeros(0, grid[0] * grid[1])
    return F.adaptive_avg_pool2d(masks.float()[None], grid)[0].flatten(1)


def pool_masks(stacks: Iterable[np.ndarray], encoder: DualEncoder) -> tuple[Tensor, Tensor]:
    """Coverage [I, R, V] (0-1) of each image's masks [R, H, W], padded to the longest stack; and which have a pixel."""
    coverages: list[Tensor] = []
    present: list[Tensor] = []
    size, mode = encoder.image_size, encoder.preprocess["resize_mode"]
    # Together: small results between large temporaries, image by image, leave the heap in holes (1 GiB was measured).
    for batch in batched(stacks, MASK_BATCH):
        some = (torch.from_numpy(masks_RHW) for masks_RHW in batch if len(masks_RHW))
        fitted = [fit_masks(masks_RHW, size, resize_mode=mode) for masks_RHW in some]
        fitted_RHW = torch.cat([torch.zeros(0, size, size, dtype=torch.bool), *fitted])
        counts = [len(masks_RHW) for masks_RHW in batch]
        coverages += coverage(fitted_RHW, encoder.grid).split(counts)
        present += fitted_RHW.flatten(1).any(1).split(counts)
    return pad_sequence(coverages, batch_first=True), pad_sequence(present, batch_first=True)
