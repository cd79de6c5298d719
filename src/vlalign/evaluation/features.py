"""What an encoder makes of a split, computed once and shared by every benchmark.

Suffixes: I images, C captions, R regions per image, P phrases per caption, N phrases of the split, L tokens, V patches,
D embedding, W words.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlalign.annotate.phrases.annotation import ParsedCaption
from vlalign.annotate.phrases.tokens import token_mapper
from vlalign.console import progress
from vlalign.data.samples import Sample, decode_image, decode_instances
from vlalign.data.shards.split import read_manifest, read_split
from vlalign.data.shards.tar import batched
from vlalign.errors import VlalignError
from vlalign.evaluation.phrases import GoldPhrase, gold_phrases, parsed_captions, word_members
from vlalign.models import DualEncoder
from vlalign.models.pictures import pool_masks, preprocess
from vlalign.objectives.alignment import pool_phrases

BATCH_SIZE = 256


@dataclass(frozen=True)
class DenseFeatures:
    """What grounding needs beyond embeddings.

    patches_IVD: projected patch tokens, not normalised. coverage_IRV: share of each patch that object R + 1 of the
    label map covers, 0-1. objects_IR: bool, which objects have a visible pixel. phrases: the N phrases with known and
    visible referents. phrases_ND: their unit-norm vectors. left_out: how many phrases and captions could not be used,
    by cause.
    """

    patches_IVD: Tensor
    coverage_IRV: Tensor
    objects_IR: Tensor
    phrases: tuple[GoldPhrase, ...]
    phrases_ND: Tensor
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class SplitFeatures:
    """Unit-norm embeddings of a split; row i of every image field is the image `keys[i]`, likewise for captions.

    `samples` are without their image bytes. `caption_image_C` (long) is the row of each caption's image. `dense` is
    None unless phrase annotations were given.
    """

    samples: tuple[Sample, ...]
    images_ID: Tensor
    captions: tuple[str, ...]
    captions_CD: Tensor
    caption_image_C: Tensor
    dense: DenseFeatures | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The images' keys."""
        return tuple(sample.key for sample in self.samples)

    @property
    def strata(self) -> tuple[str | None, ...]:
        """The images' strata, None where the dataset names none; "all" is everything's own name."""
        names: list[Any] = [sample.stratum for sample in self.samples]
        return tuple(name if isinstance(name, str) and name != "all" else None for name in names)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """One caption per image, as images_ND and captions_ND.

        Each image takes its first caption that no earlier image took, since two images with one text could not be told
        apart; an image without such a caption is left out.
        """
        taken: set[str] = set()
        rows: dict[int, int] = {}
        for row, (image, caption) in enumerate(zip(self.caption_image_C.tolist(), self.captions, strict=True)):
            if image not in rows and caption not in taken:
                rows[image] = row
                taken.add(caption)
        return self.images_ID[list(rows)], self.captions_CD[list(rows.values())]


def encode_split(
    encoder: DualEncoder,
    directory: Path,
    *,
    annotation: Mapping[str, Iterable[ParsedCaption]] | None = None,
    batch_size: int = BATCH_SIZE,
) -> SplitFeatures:
    """Run `encoder` over every image and caption of a split, without gradients.

    encoder: in eval mode, on any device; the features come back on the CPU. directory: split with a manifest.
    annotation: parsed captions by key; with it the dense features are kept too. batch_size: images or captions per
    forward pass.

    Raises VlalignError for an unreadable shard, a stale annotation, or embeddings that are not finite.
    """
    samples, images_ID, patches_IVD = encode_images(
        encoder, _watched(directory), keep_patches=annotation is not None, batch_size=batch_size
    )
    captions = tuple(caption for sample in samples for caption in sample.captions)
    counts = torch.tensor([len(sample.captions) for sample in samples], dtype=torch.long)
    caption_image_C = torch.arange(len(samples)).repeat_interleave(counts)
    if annotation is None:
        captions_CD = encode_texts(encoder, captions, batch_size=batch_size)
        return SplitFeatures(samples, images_ID, captions, captions_CD, caption_image_C)
    coverage_IRV, objects_IR = object_coverage(samples, encoder)
    parses, causes = parsed_captions(samples, annotation)
    phrases, more_causes = gold_phrases(samples, parses)
    seen = [set((row.nonzero().squeeze(1) + 1).tolist()) for row in objects_IR]
    visible = [phrase for phrase in phrases if seen[phrase.image].issuperset(phrase.instances)]
    more_causes["phrase with a hidden referent"] = len(phrases) - len(visible)
    captions_CD, phrases, phrases_ND, cut = encode_phrases(encoder, captions, parses, visible, batch_size=batch_size)
    left_out = dict(sorted((causes + more_causes + cut).items()))
    dense = DenseFeatures(patches_IVD, coverage_IRV, objects_IR, tuple(phrases), phrases_ND, left_out)
    return SplitFeatures(samples, images_ID, captions, captions_CD, caption_image_C, dense)


def _watched(directory: Path) -> Iterator[Sample]:
    """The samples of a split, with a bar on the terminal."""
    with progress(f"encoding {directory}", total=read_manifest(directory)["samples"]) as advance:
        for sample in read_split(directory):
            yield sample
            advance(1)


@torch.inference_mode()
def encode_images(
    encoder: DualEncoder, samples: Iterable[Sample], *, keep_patches: bool = False, batch_size: int = BATCH_SIZE
) -> tuple[tuple[Sample, ...], Tensor, Tensor]:
    """The samples of a stream without their image bytes, images_ID, and patches_IVD (no rows unless `keep_patches`)."""
    prepare = preprocess(encoder)
    device = next(encoder.parameters()).device
    kept: list[Sample] = []
    embeddings, patches = [], []
    for batch in batched(samples, batch_size):
        features = encoder.encode_image(prepare([decode_image(sample.image) for sample in batch]).to(device))
        embeddings.append(features.embedding_ID.float().cpu())
        if keep_patches:
            patches.append(features.patches_IVD.float().cpu())
        kept += [replace(sample, image=b"") for sample in batch]
    return tuple(kept), _finite(embeddings), torch.cat(patches) if patches else torch.empty(0)


@torch.inference_mode()
def encode_texts(encoder: DualEncoder, texts: Sequence[str], *, batch_size: int = BATCH_SIZE) -> Tensor:
    """Unit-norm embeddings [C, D] of any texts."""
    device = next(encoder.parameters()).device
    batches = [encoder.tokenizer(batch).to(device) for batch in batched(texts, batch_size)]
    return _finite([encoder.encode_text(tokens_CL).embedding_CD.float().cpu() for tokens_CL in batches])


@torch.inference_mode()
def encode_phrases(
    encoder: DualEncoder,
    captions: Sequence[str],
    parses: Sequence[ParsedCaption | None],
    phrases: Sequence[GoldPhrase],
    *,
    batch_size: int = BATCH_SIZE,
) -> tuple[Tensor, list[GoldPhrase], Tensor, Counter[str]]:
    """Encode captions and, in the same pass, their phrases: the unit-norm sum of the unit-norm words.

    Returns captions_CD; the phrases that kept a token, in caption order; phrases_ND, theirs; and how many were left out
    because the context ended before them.
    """
    device = next(encoder.parameters()).device
    by_caption: list[list[GoldPhrase]] = [[] for _ in captions]
    for phrase in phrases:
        by_caption[phrase.caption].append(phrase)
    embeddings, vectors, kept = [], [], []
    for rows in batched(range(len(captions)), batch_size):
        tokens_CL, word_CL = _word_tokens(encoder, [captions[c] for c in rows], [parses[c] for c in rows])
        features = encoder.encode_text(tokens_CL.to(device))
        embeddings.append(features.embedding_CD.float().cpu())
        words = int(max(word_CL.max().item() + 1, *(len(parse.words) for c in rows if (parse := parses[c])), 1))
        member_CPW, mask_CP = word_members([by_caption[c] for c in rows], words=words)
        owned_CW = (word_CL[:, :, None] == torch.arange(words)).any(1)
        mask_CP &= (member_CPW & owned_CW[:, None]).any(2)
        pooled_CPD = pool_phrases(features.tokens_CLD.float().cpu(), word_CL, member_CPW, normalise=True)
        vectors.append(pooled_CPD[mask_CP])
        kept += [by_caption[rows[c]][p] for c, p in mask_CP.nonzero().tolist()]
    cut = Counter({"phrase beyond the context": len(phrases) - len(kept)})
    return _finite(embeddings), kept, _finite(vectors), cut


def _word_tokens(encoder: DualEncoder, captions: list[str], found: list[ParsedCaption | None]) -> tuple[Tensor, Tensor]:
    mapper = token_mapper(encoder.tokenizer, encoder.context_length)
    tokens_CL = torch.zeros(len(captions), encoder.context_length, dtype=torch.long)
    word_CL = torch.full_like(tokens_CL, -1)
    for c, (caption, parse) in enumerate(zip(captions, found, strict=True)):
        if parse is None:
            tokens_CL[c] = encoder.tokenizer([caption])[0]
        else:
            tokens_CL[c], word_CL[c] = mapper.encode(parse.caption, parse.words)
    return tokens_CL, word_CL


def object_coverage(samples: Sequence[Sample], encoder: DualEncoder) -> tuple[Tensor, Tensor]:
    """Pool every image's label map to the encoder's patch grid: coverage_IRV, the share (0-1) of patch V that object
    R + 1 covers, and objects_IR, bool, whether the object has a pixel where the encoder looks.
    """
    # A picture without a label map has no object.
    maps = (np.zeros((1, 1), int) if one.instances is None else decode_instances(one.instances) for one in samples)
    masks = (labels_HW == np.arange(1, int(labels_HW.max()) + 1)[:, None, None] for labels_HW in maps)
    return pool_masks(masks, encoder)


def _finite(batches: list[Tensor]) -> Tensor:
    features = torch.cat(batches) if batches else torch.empty(0, 0)
    if not features.isfinite().all():
        raise VlalignError(
            "the encoder gives embeddings that are not finite; its training diverged, lower the learning rate"
        )
    return features
