"""Annotated shards as training batches, a pure function of (seed, step)."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vlalign.data.shards.split import Split
from vlalign.errors import VlalignError
from vlalign.models import DualEncoder, ImageFeatures, TextFeatures
from vlalign.models.adapters import Adapters, CentredAdapter, unpacked
from vlalign.models.pictures import normalise
from vlalign.params import AugmentParams, PhraseChoice, RegionChoice
from vlalign.training.data.caption_rows import Captions, ParsedCaptions
from vlalign.training.data.frozen_rows import FrozenCaptions, FrozenPictures
from vlalign.training.data.order import epoch_order, generator
from vlalign.training.data.picture_rows import MaskedPictures, Pictures, fill_with_boxes
from vlalign.training.data.row_cache import CachedRows, MadeRows, size_of
from vlalign.training.data.twin_rows import Twins
from vlalign.training.data.unpaired import Share, Stream

logger = logging.getLogger(__name__)
# Bytes of pictures and captions that a split may keep in memory.
ROOM = 2**31
# Pairs that are looked at together before training.
FIT_BATCH = 1024


@dataclass(frozen=True)
class Batch:
    """Pairs: uint8 pictures I 3 H W, token ids I L, and for the powerset what its two poolings take; where towers are
    frozen, what they gave of pictures and captions (see `vlalign.training.data.frozen_rows`).

    `more_images` and `more_tokens` join the divergences alone; they may be of any numbers. `twins` are token ids I L of
    hard negatives of the captions, where `twin_mask` says that a caption has one.
    """

    images: Tensor
    tokens: Tensor
    words: Tensor | None = None
    members: Tensor | None = None
    phrase_mask: Tensor | None = None
    coverage: Tensor | None = None
    region_mask: Tensor | None = None
    more_images: Tensor | None = None
    more_tokens: Tensor | None = None
    twins: Tensor | None = None
    twin_mask: Tensor | None = None

    def all_images(self) -> Tensor:
        """Those of the pairs, then those without a partner."""
        return self.images if self.more_images is None else torch.cat((self.images, self.more_images))

    def all_tokens(self) -> Tensor:
        """Those of the pairs, then those without a partner, then twins."""
        found = [tokens for tokens in (self.tokens, self.more_tokens, self.twins) if tokens is not None]
        return torch.cat(found) if len(found) > 1 else found[0]

    def to(self, device: torch.device) -> "Batch":
        """On this device."""
        return self._each(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """In page-locked memory, from which a GPU copies while it computes."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(**{name: change(value) for name, value in self.columns().items()})

    def columns(self) -> dict[str, Tensor]:
        """The tensors that there are, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def split(self, parts: int) -> list["Batch"]:
        """The pairs in so many parts, as equal as can be."""
        split = {name: value.tensor_split(parts) for name, value in self.columns().items()}
        return [Batch(**{name: values[part] for name, values in split.items()}) for part in range(parts)]


class PairedSet:
    """The pairs of a split: pictures as uint8, captions as token ids, phrases and regions on the tower's grids.

    They are read when a batch asks for them. What is the same in every epoch is kept if there is room for all of it.

    Args:
        split: folder of shards.
        encoder: whose tokenizer and sizes are used.
        phrases, regions: annotation folders; boxes alone need no folder of regions.
        phrase_choice, region_choice: which of them enter.
        augment: how every epoch sees another part of each picture.
        all_captions: whether the captions that were not drawn come as `more_tokens`.
        more_images, more_captions: images and captions without a partner, of which some come with every batch.
        features: folder with what frozen towers gave, which then take the places of pictures and captions.
        pairs: the first so many images alone; all if None.
        twins: kinds of twins of captions, of which one comes with every caption that has any; they need `phrases`.
        room: bytes that may be kept.

    Raises:
        VlalignError: when a file is missing or the split is not one of images with captions.
    """

    def __init__(
        self,
        split: str | Path,
        encoder: DualEncoder,
        *,
        phrases: str | Path | None = None,
        regions: str | Path | None = None,
        phrase_choice: PhraseChoice | None = None,
        region_choice: RegionChoice | None = None,
        augment: AugmentParams | None = None,
        all_captions: bool = False,
        more_images: Stream | None = None,
        more_captions: Stream | None = None,
        features: str | Path | None = None,
        pairs: int | None = None,
        twins: tuple[str, ...] = (),
        room: int = ROOM,
    ) -> None:
        self.split, self.grid, self.choice = Split(split), encoder.grid, region_choice
        self.split.require("image", "captions")
        pictures: Pictures | FrozenPictures = Pictures(self.split, encoder, augment)
        if regions is not None and region_choice is not None and "mask" in region_choice.kinds:
            pictures = MaskedPictures(self.split, encoder, augment, regions=Path(regions), choice=region_choice)
        captions: Captions | FrozenCaptions = Captions(self.split, encoder)
        if phrases is not None and phrase_choice is not None:
            captions = ParsedCaptions(self.split, encoder, phrases=Path(phrases), choice=phrase_choice)
        if features is not None:
            pictures = FrozenPictures(self.split, Path(features))
            captions = captions if encoder.lora else FrozenCaptions(self.split, Path(features))
        self.twins = (
            None if phrases is None or not twins else MadeRows(Twins(self.split, encoder, Path(phrases), twins))
        )
        self.count = len(self.split) if pairs is None else min(pairs, len(self.split))
        images, texts = len(self), len(self) * self.split.most_captions
        needed = size_of(captions, texts)
        self.captions = CachedRows(captions, texts) if needed <= room else MadeRows(captions)
        room -= needed if needed <= room else 0
        fits = pictures.fixed and size_of(pictures, images) <= room
        self.pictures = CachedRows(pictures, images) if fits else MadeRows(pictures)
        self.all_captions, self.more_images, self.more_captions = all_captions, more_images, more_captions

    def __len__(self) -> int:
        return self.count

    def steps_per_epoch(self, size: int) -> int:
        """Batches of this size; raises VlalignError when the split is smaller than one."""
        if size > len(self):
            raise VlalignError(f"train.batch_size is {size}, but the training split has {len(self)} images; lower it")
        return len(self) // size

    def batch(self, *, seed: int, step: int, size: int, share: Share = lambda rows: rows) -> Batch:
        """The batch of one step, of which `share` takes the wanted rows: a new permutation in every epoch, the
        incomplete last batch dropped, one caption per image.
        """
        epoch, position = divmod(step, self.steps_per_epoch(size))
        images = epoch_order(len(self), seed, epoch)[position * size : (position + 1) * size].long()
        draw = torch.rand(size, generator=generator(seed, "caption", step))
        images, draw = share(images), share(draw)
        counts = torch.tensor([self.split.caption_count(image) for image in images.tolist()])
        captions = (draw * counts).long()
        batch = self.select(images, captions, when=f"{seed}/{epoch}")
        more = [] if self.more_captions is None else [self.more_captions(seed, step, share)]
        if self.all_captions:
            more.append(self._other_captions(images, captions, counts))
        return replace(
            batch,
            more_images=None if self.more_images is None else self.more_images(seed, step, share),
            more_tokens=torch.cat(more) if more else None,
        )

    def _other_captions(self, images: Tensor, captions: Tensor, counts: Tensor) -> Tensor:
        """Token ids of those that were not drawn."""
        most = self.split.most_captions
        numbers = [
            image * most + caption
            for image, drawn, count in zip(images.tolist(), captions.tolist(), counts.tolist(), strict=True)
            for caption in range(count)
            if caption != drawn
        ]
        return self.captions(numbers, "")[0]

    def select(self, images: Tensor, captions: Tensor | int = 0, *, when: str = "") -> Batch:
        """The pairs of these images, each with its so-many-th caption; what is drawn depends on `when`."""
        pixels, *covered = self.pictures(images.tolist(), when)
        numbers = images * self.split.most_captions + captions
        tokens, *parsed = self.captions(numbers.tolist(), when)
        words, members = parsed or (None, None)
        twins, has_twin = self.twins(numbers.tolist(), when) if self.twins else (None, None)
        coverage_IRV = self._with_boxes(images, covered, when)
        return Batch(
            images=pixels,
            tokens=tokens,
            words=words,
            members=members,
            phrase_mask=None if members is None else members.any(-1),
            coverage=coverage_IRV,
            region_mask=None if coverage_IRV is None else coverage_IRV.sum(-1) > 0,
            twins=twins,
            twin_mask=has_twin,
        )

    def _with_boxes(self, images: Tensor, covered: list[Tensor], when: str) -> Tensor | None:
        if self.choice is None or not (covered or "box" in self.choice.kinds):
            return None
        shape = (len(images), self.choice.count, self.grid[0] * self.grid[1])
        coverage_IRV = covered[0] if covered else torch.zeros(shape)
        if "box" not in self.choice.kinds:
            return coverage_IRV
        return fill_with_boxes(coverage_IRV, [self.split.key(image) for image in images.tolist()], when, self.grid)


def encode(encoder: DualEncoder, batch: Batch) -> tuple[ImageFeatures, TextFeatures]:
    """All pictures and captions of a batch in the joint space; what frozen towers gave needs their adapters alone."""
    images, tokens = batch.all_images(), batch.all_tokens()
    if not images.is_floating_point():
        return encoder(normalise(images, encoder), tokens)
    image = encoder.joint_image(unpacked(images))
    # A text tower with low-rank changes reads every caption again.
    text = encoder.joint_text(unpacked(tokens)) if tokens.is_floating_point() else encoder.encode_text(tokens)
    return image, text


def fit(adapters: Adapters, data: PairedSet) -> None:
    """Show adapters that are not trained the features of all pictures and of their first captions."""
    if not isinstance(adapters.image, CentredAdapter):
        return
    parts = [data.select(images) for images in torch.arange(len(data)).split(FIT_BATCH)]
    for adapter, name in ((adapters.image, "images"), (adapters.text, "tokens")):
        if isinstance(adapter, CentredAdapter):
            adapter.fit(
                torch.cat([unpacked(getattr(part, name)).pooled_NW for part in parts]).to(adapter.mean_W.device)
            )


def check_parts(data: PairedSet, *, images: int = 256) -> None:
    """Look for phrases, regions and twins in the first pairs: warn where some have none; VlalignError where all have
    none.
    """
    first = data.select(torch.arange(min(images, len(data))))
    twins = None if first.twin_mask is None else first.twin_mask[:, None]
    powerset = "the powerset loss leaves such pairs out"
    for part, mask, key, then in (
        ("phrases", first.phrase_mask, "objective.powerset.phrases", powerset),
        ("regions", first.region_mask, "objective.powerset.regions", powerset),
        ("twins", twins, "objective.hard_negatives.kinds", "such captions have no hard negative of their own"),
    ):
        if mask is None:
            continue
        empty = int((~mask.any(1)).sum())
        if empty == len(mask):
            raise VlalignError(
                f"none of the first {empty} pairs of {data.split.directory} has {part} as {key} wants them; ask for "
                "others there"
            )
        if empty:
            logger.warning("%d of the first %d pairs have no %s of %s; %s", empty, len(mask), part, key, then)
