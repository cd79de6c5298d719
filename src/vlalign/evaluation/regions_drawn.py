"""What a model sees in pictures whose phrases have no known referents: the similarity of phrases with found regions."""

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.annotate.phrases import ParsedCaption, PhraseFile
from vlalign.annotate.regions import RegionFile
from vlalign.data.samples import decode_image
from vlalign.data.splits import Annotations, Split
from vlalign.data.transforms import View, coverage, cut_masks, fit, middle
from vlalign.evaluation.features import encode_images, encode_phrases
from vlalign.evaluation.phrases import GoldPhrase
from vlalign.models import DualEncoder
from vlalign.objectives.alignment import pool_regions
from vlalign.params import PhraseChoice
from vlalign.reporting.figures import SceneDrawing
from vlalign.training.captions import choose_phrases

# The pictures that are drawn: the first with a caption of at least two phrases. Regions of each, the largest.
IMAGES, REGIONS = 4, 8
PHRASES = PhraseChoice(count=4)
# Pixels of a drawn picture for one that the encoder sees.
ZOOM = 3


def region_drawings(encoder: DualEncoder, split: Path, annotations: Path, *, label: str) -> list[SceneDrawing]:
    """The first pictures of a split with the phrases of their first captions.

    annotations: folder with `phrases/<split>`, and `regions/<split>` if there are any.
    """
    data = Split(split)
    phrases = data.annotations(annotations / "phrases" / split.name, PhraseFile, rule="phrases")
    folder = annotations / "regions" / split.name
    regions = data.annotations(folder, RegionFile, rule="regions") if (folder / "manifest.json").is_file() else None
    drawn: list[SceneDrawing] = []
    for image in range(len(data)):
        parsed, row = phrases.find(image)
        entry = parsed.caption(row, 0)
        spans = choose_phrases(entry, PHRASES, present=set(range(len(entry.words))))
        if len(spans) >= 2:
            drawn.append(_drawing(encoder, data, image, entry, spans, _masks(regions, image), label=label))
        if len(drawn) == IMAGES:
            break
    return drawn


def _masks(regions: Annotations[RegionFile] | None, image: int) -> Tensor:
    """The largest regions of an image, or none."""
    if regions is None:
        return torch.zeros(0, 1, 1, dtype=torch.bool)
    file, row = regions.find(image)
    return torch.from_numpy(file[row].masks(REGIONS))


def _drawing(
    encoder: DualEncoder,
    data: Split,
    image: int,
    entry: ParsedCaption,
    spans: list[tuple[int, int]],
    masks_RHW: Tensor,
    *,
    label: str,
) -> SceneDrawing:
    shard, row = data.locate(image)
    sample = data.open(shard).sample(row)
    picture = decode_image(sample.image)
    _, _, patches_IVD = encode_images(encoder, [sample], keep_patches=True)
    phrases = [GoldPhrase(0, 0, "", (), tuple(range(*span))) for span in spans]
    _, phrases, phrases_PD, _ = encode_phrases(encoder, [entry.caption], [entry], phrases)
    _, seen_RHW = View(encoder)(picture, random.Random(0), masks_RHW)
    regions_IRD = pool_regions(patches_IVD, coverage(seen_RHW, encoder.grid)[None])
    how = encoder.preprocess["resize_mode"]
    size = ZOOM * encoder.image_size
    return SceneDrawing(
        image=fit(picture, size, resize_mode=how).permute(1, 2, 0).numpy(),
        masks=cut_masks(masks_RHW, picture.size, middle(picture.size, resize_mode=how), size).numpy(),
        phrases=[_text(entry, phrase) for phrase in phrases],
        patch_similarity=(phrases_PD @ F.normalize(patches_IVD[0], dim=-1).T).numpy(),
        grid=encoder.grid,
        region_similarity=np.where(
            seen_RHW.flatten(1).any(1).numpy(), (phrases_PD @ regions_IRD[0].T).numpy(), -np.inf
        ),
        referents=None,
        label=label,
    )


def _text(entry: ParsedCaption, phrase: GoldPhrase) -> str:
    return entry.caption[entry.words[phrase.words[0]].start : entry.words[phrase.words[-1]].end]
