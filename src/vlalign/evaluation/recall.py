"""Ranks and recall of image-text retrieval, in a gallery of one modality or of both."""

import torch
from torch import Tensor

from vlalign.evaluation.ranking import TIE, percent

RANKS = (1, 5, 10)


def retrieval_ranks(
    images_ID: Tensor, captions_CD: Tensor, caption_image_C: Tensor, *, chunk: int = 512
) -> tuple[Tensor, Tensor]:
    """Count the wrong candidates that score at least as high as a query's best right one.

    images_ID, captions_CD: unit-norm embeddings; an image may have any number of captions. caption_image_C: long, the
    image of each caption. chunk: images compared at once; bounds memory at chunk x C similarities.

    Returns zero-based ranks, long: of each image's best caption [I] (C for an image without captions), and of each
    caption's image [C]. Ties, up to rounding, count against the model.
    """
    own_C = (images_ID[caption_image_C] * captions_CD).sum(1)
    none_I = torch.full((len(images_ID),), torch.inf)
    best_I = none_I.scatter_reduce(0, caption_image_C, own_C, "amax", include_self=False)
    caption_ranks_I = torch.full((len(images_ID),), len(captions_CD))
    image_ranks_C = torch.zeros(len(captions_CD), dtype=torch.long)
    for rows in torch.arange(len(images_ID)).split(chunk):
        scores = images_ID[rows] @ captions_CD.T
        scores.masked_fill_(caption_image_C[None] == rows[:, None], -torch.inf)
        image_ranks_C += (~(scores < own_C - TIE)).sum(0)
        caption_ranks_I[rows] = (~(scores < best_I[rows, None] - TIE)).sum(1)
    caption_ranks_I[best_I.isinf()] = len(captions_CD)
    return caption_ranks_I, image_ranks_C


def recall_hits(images_ID: Tensor, captions_CD: Tensor, caption_image_C: Tensor) -> dict[tuple[str, int], Tensor]:
    """Which queries find a right answer among the best K, bool, by direction and K; see `retrieval_ranks`.

    Images without captions are no queries, but stay in the gallery of the captions. Without any caption there is no
    recall.
    """
    if len(captions_CD) == 0:
        return {}
    caption_ranks_I, image_ranks_C = retrieval_ranks(images_ID, captions_CD, caption_image_C)
    ranks = {"image_to_text": caption_ranks_I[caption_image_C.unique()], "text_to_image": image_ranks_C}
    return {(way, k): found < k for way, found in ranks.items() for k in RANKS}


def recall_chance(images: int, caption_image_C: Tensor) -> dict[tuple[str, int], float]:
    """What R@K is in percent, by direction and K, where the K best are drawn at random without replacement."""
    counts_Q = caption_image_C.bincount()
    counts_Q = counts_Q[counts_Q > 0].double()
    missed_Q, chances, captions = torch.ones_like(counts_Q), {}, len(caption_image_C)
    for drawn in range(max(RANKS)):
        left = captions - drawn
        missed_Q = missed_Q * ((left - counts_Q).clamp(min=0) / left if left > 0 else 0)
        if drawn + 1 in RANKS:
            chances["image_to_text", drawn + 1] = percent(1 - missed_Q)
            chances["text_to_image", drawn + 1] = 100 * min(1.0, (drawn + 1) / images)
    return chances


def mixed_hits(queries_ND: Tensor, partners_ND: Tensor, *, chunk: int = 512) -> Tensor:
    """Which queries, bool, find their partner first when all queries and partners form one gallery, without the query.

    Row i of both is a pair of unit-norm embeddings; ties, up to rounding, count against the model.
    """
    hits = []
    for rows in torch.arange(len(queries_ND)).split(chunk):
        across, within = queries_ND[rows] @ partners_ND.T, queries_ND[rows] @ queries_ND.T
        pair = across.gather(1, rows[:, None]).squeeze(1)
        across.scatter_(1, rows[:, None], -torch.inf)
        within.scatter_(1, rows[:, None], -torch.inf)
        hits.append(pair > torch.maximum(across.amax(1), within.amax(1)) + TIE)
    return torch.cat(hits)
