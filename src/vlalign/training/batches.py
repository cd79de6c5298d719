"""Annotated shards as training batches, a pure function of (seed, step)."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.annotate.phrases import ParsedCaption, read_phrases
from vlalign.annotate.regions import ImageRegions, read_regions
from vlalign.annotate.tokens import token_mapper
from vlalign.data.samples import Sample, decode_image
from vlalign.data.splits import read_split
from vlalign.data.transforms import fit_for, pool_masks
from vlalign.errors import VlalignError
from vlalign.models import DualEncoder
from vlalign.params import PhraseChoice, RegionChoice

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Pairs: uint8 pictures I 3 H W, token ids I L, and for the powerset what its two poolings take."""

    images: Tensor
    tokens: Tensor
    words: Tensor | None = None
    members: Tensor | None = None
    phrase_mask: Tensor | None = None
    coverage: Tensor | None = None
    region_mask: Tensor | None = None

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


@dataclass(frozen=True)
class PhraseTable:
    """Of every caption: the word of each token C L, the words of each phrase C P W, and which phrases are real C P."""

    words: Tensor
    members: Tensor
    mask: Tensor


class PairedSet:
    """The pairs of a split in memory: pictures as uint8, captions as token ids, phrases and regions on the tower's
    grids.

    Args:
        split: folder of shards.
        encoder: whose tokenizer and sizes are used.
        phrases, regions: annotation folders; both or neither.
        phrase_choice, region_choice: which of them enter.

    Raises:
        VlalignError: when a file is missing or no image has a caption.
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
    ) -> None:
        samples = [sample for sample in read_split(split) if sample.captions]
        if not samples:
            raise VlalignError(f"{split} holds no image with a caption; check the dataset's manifest.json")
        self.images = torch.empty(len(samples), 3, encoder.image_size, encoder.image_size, dtype=torch.uint8)
        for image, sample in zip(self.images, samples, strict=True):
            image.copy_(fit_for(encoder, decode_image(sample.image)))
        counts = torch.tensor([len(sample.captions) for sample in samples])
        self.captions_of, self.first_caption = counts, counts.cumsum(0) - counts
        self.phrases, self.regions = None, None
        if phrases is not None and phrase_choice is not None:
            self.tokens, self.phrases = _phrases(samples, read_phrases(Path(phrases)), encoder, phrase_choice)
            _count_empty("captions", "phrases", ~self.phrases.mask.any(1), split)
        else:
            self.tokens = encoder.tokenizer([caption for sample in samples for caption in sample.captions])
        if regions is not None and region_choice is not None:
            self.regions = _regions(samples, read_regions(regions), encoder, region_choice)
            _count_empty("images", "regions", self.regions.flatten(1).sum(1) == 0, split)

    def __len__(self) -> int:
        return len(self.images)

    def steps_per_epoch(self, size: int) -> int:
        """Batches of this size; raises VlalignError when the split is smaller than one."""
        if size > len(self):
            raise VlalignError(f"train.batch_size is {size}, but the training split has {len(self)} images; lower it")
        return len(self) // size

    def batch(self, *, seed: int, step: int, size: int, share: Callable[[Tensor], Tensor] | None = None) -> Batch:
        """The batch of one step: a new permutation in every epoch, the incomplete last batch dropped, one caption per
        image. share: the part of its rows that is wanted; all of them if left out.
        """
        epoch, position = divmod(step, self.steps_per_epoch(size))
        images = epoch_order(len(self), seed, epoch)[position * size : (position + 1) * size]
        draw = torch.rand(size, generator=generator(seed, "caption", step))
        captions = self.first_caption[images] + (draw * self.captions_of[images]).long()
        return self.select(images, captions) if share is None else self.select(share(images), share(captions))

    def select(self, images: Tensor, captions: Tensor) -> Batch:
        """The pairs of these image and caption indices."""
        table = self.phrases
        coverage = None if self.regions is None else self.regions[images]
        return Batch(
            images=self.images[images],
            tokens=self.tokens[captions],
            words=table.words[captions].long() if table else None,
            members=table.members[captions] if table else None,
            phrase_mask=table.mask[captions] if table else None,
            coverage=coverage,
            region_mask=None if coverage is None else coverage.sum(-1) > 0,
        )


def _count_empty(rows: str, parts: str, empty: Tensor, split: str | Path) -> None:
    key = f"objective.powerset.{parts}"
    if empty.all():
        raise VlalignError(f"none of the {rows} of {split} has {parts} as {key} wants them; ask for others there")
    if empty.any():
        count = int(empty.sum())
        logger.warning(
            "%d of %d %s have no %s of %s; the powerset loss leaves them out", count, len(empty), rows, parts, key
        )


@lru_cache(maxsize=1)
def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """A permutation of so many images; drawing it takes as long as the data are large, so it is kept for the epoch."""
    return torch.randperm(count, generator=generator(seed, "order", epoch))


def generator(*key: object) -> torch.Generator:
    """A random generator that depends on `key` alone."""
    words = np.random.SeedSequence([int.from_bytes(str(part).encode(), "little") for part in key])
    return torch.Generator().manual_seed(int(words.generate_state(1, np.uint64)[0]) >> 1)


def _phrases(
    samples: Sequence[Sample], parsed: dict[str, list[ParsedCaption]], encoder: DualEncoder, choice: PhraseChoice
) -> tuple[Tensor, PhraseTable]:
    """Token ids of every caption and its chosen phrases; a caption without a parse has none."""
    mapper = token_mapper(encoder.tokenizer, encoder.context_length)
    width = encoder.context_length
    total = sum(len(sample.captions) for sample in samples)
    ids, words = np.zeros((total, width), np.int64), np.full((total, width), -1, np.int16)
    members = np.zeros((total, choice.count, width), bool)
    row = 0
    for sample in samples:
        by_index = {entry.caption_index: entry for entry in parsed.get(sample.key, ())}
        for index in range(len(sample.captions)):
            entry = by_index.get(index)
            if entry is None:
                raise VlalignError(f"caption {index} of '{sample.key}' was never parsed; run the phrases rule again")
            ids[row], words[row] = (column.numpy() for column in mapper.encode(entry.caption, entry.words))
            for number, (first, last) in enumerate(choose_phrases(entry, choice, present=set(words[row].tolist()))):
                members[row, number, first:last] = True
            row += 1
    table = PhraseTable(torch.from_numpy(words), torch.from_numpy(members), torch.from_numpy(members.any(-1)))
    return torch.from_numpy(ids), table


def choose_phrases(entry: ParsedCaption, choice: PhraseChoice, *, present: set[int]) -> list[tuple[int, int]]:
    """Word ranges of the phrases that enter the powerset: distinct, chosen by label and length, the shortest first.

    present: the words that have a token of their own; a phrase that truncation cut is left out.
    """
    if choice.unit == "words":
        return [(word, word + 1) for word in range(len(entry.words)) if word in present][: choice.count]
    ranges = {
        (part.first, part.last)
        for part in entry.constituents
        if part.label in choice.labels and part.last - part.first >= choice.min_words
    }
    whole = [span for span in ranges if present.issuperset(range(*span))]
    return sorted(whole, key=lambda span: (span[1] - span[0], span))[: choice.count]


def _regions(
    samples: Sequence[Sample], found: dict[str, ImageRegions], encoder: DualEncoder, choice: RegionChoice
) -> Tensor:
    """Coverage of the patch grid by every image's chosen regions, I R V; missing regions are zero."""
    for sample in samples:
        if sample.key not in found:
            raise VlalignError(f"'{sample.key}' has no regions; run the regions rule again")
    masks = (found[sample.key].masks(kinds=choice.kinds, count=choice.count) for sample in samples)
    coverage_IRV, _ = pool_masks(masks, encoder)
    return F.pad(coverage_IRV, (0, 0, 0, choice.count - coverage_IRV.shape[1]))
