"""What an encoder makes of a split, computed once and shared by every benchmark.

Suffixes: I images, C captions, R regions per image, P phrases per caption, N phrases of the split, L tokens, V patches,
D embedding, W words.
"""

import hashlib
import json
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

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
from vlalign.evaluation.store import FeatureStore
from vlalign.models import DualEncoder
from vlalign.models.adapters import TowerFeatures
from vlalign.models.pictures import fit_for, normalise, pool_masks
from vlalign.objectives.alignment import pool_phrases
from vlalign.records import stamp

BATCH_SIZE = 256
# Of images or of texts, with as many rows as the batch.
Features = TypeVar("Features")

logger = logging.getLogger(__name__)


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
    workers: int = 0,
    store: FeatureStore | None = None,
) -> SplitFeatures:
    """Run `encoder` over every image and caption of a split, without gradients.

    encoder: in eval mode, on any device; the features come back on the CPU. directory: split with a manifest.
    annotation: parsed captions by key; with it the dense features are kept too, which no store holds. batch_size:
    images or captions per forward pass. workers: threads that decode pictures ahead. store: holds embeddings that were
    computed before.

    Raises VlalignError for an unreadable shard, a stale annotation, or embeddings that are not finite.
    """
    if annotation is None:
        samples, images_ID = split_images(encoder, directory, batch_size=batch_size, workers=workers, store=store)
    else:
        samples, images_ID, patches_IVD = encode_images(
            encoder, _watched(directory), keep_patches=True, batch_size=batch_size, workers=workers
        )
    captions = tuple(caption for sample in samples for caption in sample.captions)
    counts = torch.tensor([len(sample.captions) for sample in samples], dtype=torch.long)
    caption_image_C = torch.arange(len(samples)).repeat_interleave(counts)
    if annotation is None:
        captions_CD = encode_texts(encoder, captions, batch_size=batch_size, store=store)
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


def split_images(
    encoder: DualEncoder,
    directory: Path,
    *,
    batch_size: int = BATCH_SIZE,
    workers: int = 0,
    store: FeatureStore | None = None,
) -> tuple[tuple[Sample, ...], Tensor]:
    """The samples of a split without their image bytes, and images_ID; see `encode_split` for the rest."""
    found: list[tuple[Sample, ...]] = []

    def compute() -> Tensor:
        how: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "to_keep": store is not None}
        samples, images_ID, _ = encode_images(encoder, _watched(directory), **how)
        found.append(samples)
        return images_ID

    if store is None:
        images_ID = compute()
    else:
        kept = store.features({"images": stamp(directory / "manifest.json")["sha256"]}, compute)
        images_ID = _from_store(kept, encoder, encoder.joint_image)
    return found[0] if found else tuple(replace(one, image=b"") for one in _watched(directory)), images_ID


@torch.inference_mode()
def encode_images(
    encoder: DualEncoder,
    samples: Iterable[Sample],
    *,
    keep_patches: bool = False,
    batch_size: int = BATCH_SIZE,
    workers: int = 0,
    to_keep: bool = False,
) -> tuple[tuple[Sample, ...], Tensor, Tensor]:
    """The samples of a stream without their image bytes, images_ID, and patches_IVD (no rows unless `keep_patches`).

    workers: threads that decode pictures ahead; none if 0. to_keep: give what a store holds, with adapters
    the frozen towers' features. Where memory does not suffice, a batch is halved.
    """
    encode: Callable[[Tensor], Any] = encoder.tower_image if to_keep and encoder.adapters else encoder.encode_image
    device = next(encoder.parameters()).device
    kept: list[Sample] = []
    embeddings, patches = [], []
    for batch, pictures_I3HW in _prepared(encoder, samples, batch_size=batch_size, workers=workers):
        for part in _halved(lambda some: encode(normalise(some.to(device), encoder)), pictures_I3HW):
            embeddings.append(part[0].float().cpu())
            if keep_patches:
                patches.append(part.patches_IVD.float().cpu())
        kept += [replace(sample, image=b"") for sample in batch]
    return tuple(kept), _finite(embeddings), torch.cat(patches) if patches else torch.empty(0)


def _prepared(
    encoder: DualEncoder, samples: Iterable[Sample], *, batch_size: int, workers: int
) -> Iterator[tuple[list[Sample], Tensor]]:
    """Samples and their pictures, uint8 I 3 H W, batch by batch; the next batch is decoded while one is used."""

    def picture(sample: Sample) -> Tensor:
        return fit_for(encoder, decode_image(sample.image))

    if workers == 0:
        for batch in batched(samples, batch_size):
            yield batch, torch.stack(list(map(picture, batch)))
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[tuple[list[Sample], Iterator[Tensor]]] = deque()
        for batch in batched(samples, batch_size):
            ahead.append((batch, pool.map(picture, batch)))
            if len(ahead) > 1:
                ready, pictures = ahead.popleft()
                yield ready, torch.stack(list(pictures))
        for ready, pictures in ahead:
            yield ready, torch.stack(list(pictures))


def _halved(encode: Callable[[Tensor], Features], batch: Tensor) -> Iterator[Features]:
    """The features of a batch, in parts where the device has not the memory for the whole."""
    try:
        found = [encode(batch)]
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
        torch.cuda.empty_cache()
        logger.warning("%d items do not fit into the device's memory together; they are halved", len(batch))
        found = [part for half in batch.chunk(2) for part in _halved(encode, half)]
    yield from found


@torch.inference_mode()
def encode_texts(
    encoder: DualEncoder, texts: Sequence[str], *, batch_size: int = BATCH_SIZE, store: FeatureStore | None = None
) -> Tensor:
    """Unit-norm embeddings [C, D] of any texts. store: holds embeddings that were computed before."""
    device = next(encoder.parameters()).device
    if encoder.lora is not None:
        # Its own text tower; only the frozen ones are shared.
        store = None
    kept_of_towers = store is not None and encoder.adapters is not None
    encode: Callable[[Tensor], Any] = encoder.tower_text if kept_of_towers else encoder.encode_text

    def compute() -> Tensor:
        batches = (encoder.tokenizer(batch) for batch in batched(texts, batch_size))
        parts = (part for ids_CL in batches for part in _halved(lambda some: encode(some.to(device)), ids_CL))
        return _finite([part[0].float().cpu() for part in parts])

    if store is None:
        return compute()
    kept = store.features({"texts": hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()}, compute)
    return _from_store(kept, encoder, encoder.joint_text)


@torch.inference_mode()
def _from_store(kept_ND: Tensor, encoder: DualEncoder, adapt: Callable[[TowerFeatures], Any]) -> Tensor:
    """Unit embeddings from what a store holds: they themselves, or what the frozen towers gave."""
    if encoder.adapters is None or not len(kept_ND):
        return kept_ND
    device = encoder.logit_scale.device
    parts = [
        adapt(TowerFeatures.without_tokens(pooled_NW))[0].float().cpu()
        for pooled_NW in kept_ND.to(device).split(BATCH_SIZE)
    ]
    return _finite(parts)


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
