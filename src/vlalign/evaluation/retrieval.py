"""Image-text retrieval: R@1, R@5 and R@10 in both directions, over the whole split and within each stratum."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vlalign.evaluation.ranking import TIE, Scores, UnmeasurableError, percent

RANKS = (1, 5, 10)


def retrieval_ranks(
    images_ID: Tensor, captions_CD: Tensor, caption_image_C: Tensor, *, chunk: int = 512
) -> tuple[Tensor, Tensor]:
    """Count the wrong candidates that score at least as high as a query's best right one.

    Args:
        images_ID: unit-norm image embeddings.
        captions_CD: unit-norm caption embeddings; an image may have any number of captions.
        caption_image_C: long, the image of each caption.
        chunk: images compared at once; bounds memory at chunk x C similarities.

    Returns:
        Zero-based ranks, long: of each image's best caption [I] (C for an image without captions), and of each
        caption's image [C]. Ties, up to rounding, count against the model.
    """
    own_C = (images_ID[caption_image_C] * captions_CD).sum(1)
    best_I = torch.full((len(images_ID),), torch.inf).scatter_reduce(
        0, caption_image_C, own_C, "amax", include_self=False
    )
    caption_ranks_I = torch.full((len(images_ID),), len(captions_CD))
    image_ranks_C = torch.zeros(len(captions_CD), dtype=torch.long)
    for start in range(0, len(images_ID), chunk):
        rows = torch.arange(start, min(start + chunk, len(images_ID)))
        scores = images_ID[rows] @ captions_CD.T
        scores.masked_fill_(caption_image_C[None] == rows[:, None], -torch.inf)
        image_ranks_C += (~(scores < own_C - TIE)).sum(0)
        caption_ranks_I[rows] = (~(scores < best_I[rows, None] - TIE)).sum(1)
    caption_ranks_I[best_I.isinf()] = len(captions_CD)
    return caption_ranks_I, image_ranks_C


def recall(images_ID: Tensor, captions_CD: Tensor, caption_image_C: Tensor) -> Scores:
    """R@K in percent in both directions; see `retrieval_ranks` for the shapes.

    Images without captions are no queries, but stay in the gallery of the captions. Without any caption only the
    counts are returned.
    """
    scores: Scores = {"images": len(images_ID), "captions": len(captions_CD)}
    if len(captions_CD) == 0:
        return scores
    caption_ranks_I, image_ranks_C = retrieval_ranks(images_ID, captions_CD, caption_image_C)
    queries_I = caption_ranks_I[caption_image_C.unique()]
    for k in RANKS:
        scores[f"image_to_text_r{k}"] = percent(queries_I < k)
        scores[f"text_to_image_r{k}"] = percent(image_ranks_C < k)
    return scores


def retrieval_scores(
    images_ID: Tensor, captions_CD: Tensor, caption_image_C: Tensor, strata: Sequence[str | None]
) -> Scores:
    """`recall` over everything ("all") and per stratum, the gallery restricted to the stratum.

    Args:
        images_ID: unit-norm image embeddings.
        captions_CD: unit-norm caption embeddings.
        caption_image_C: long, the image of each caption.
        strata: one name per image; None puts an image into "all" only.

    Raises UnmeasurableError for a gallery of one image.
    """
    if len(images_ID) < 2:
        raise UnmeasurableError(f"retrieval needs at least 2 images, not {len(images_ID)}")
    scores = {"all": recall(images_ID, captions_CD, caption_image_C)}
    for stratum in sorted({name for name in strata if name is not None}):
        inside_I = torch.tensor([name == stratum for name in strata])
        inside_C = inside_I[caption_image_C]
        position_I = inside_I.cumsum(0) - 1
        scores[stratum] = recall(images_ID[inside_I], captions_CD[inside_C], position_I[caption_image_C[inside_C]])
    return scores
