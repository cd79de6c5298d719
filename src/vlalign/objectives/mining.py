"""Triplet margin loss on powerset scores, differentiated at the mined pairs alone (PowerCLIP, section 3).

The gradient of a triplet loss with one negative per row touches three pairs per row. All pairs are scored without a
graph, in tiles; the negatives are found; only their pairs and the positives are scored again with a graph. Value and
gradient equal those of the naive loss, memory is O(I·C) instead of O(I·C·R·P).
"""

import torch
from torch import Tensor

from vlalign.objectives.powerset import Aggregation, _checked, _mask, make_aggregation, score_all

NEGATIVES = ("hardest", "semi-hard")


def triplet_margin(scores_IC: Tensor, *, margin: float, negatives: str = "hardest") -> Tensor:
    """Mean over rows plus mean over columns of relu(margin + negative − positive); positives on the diagonal."""
    column, row = mine(scores_IC.detach(), negatives=negatives)
    index = torch.arange(len(scores_IC), device=scores_IC.device)
    positive = scores_IC.diagonal()
    return _hinge(positive, scores_IC[index, column], scores_IC[row, index], margin)


def mine(scores_IC: Tensor, *, negatives: str) -> tuple[Tensor, Tensor]:
    """The negative caption of every image and the negative image of every caption.

    hardest: the highest score off the diagonal. semi-hard: the highest among those below the positive's; where there is
    none, the lowest score, whose gradient pushes least.
    """
    if negatives not in NEGATIVES:
        raise ValueError(f"negatives is {negatives!r}; it must be one of {', '.join(NEGATIVES)}")
    if scores_IC.ndim != 2 or scores_IC.shape[0] != scores_IC.shape[1] or len(scores_IC) < 2:
        raise ValueError(f"scores_IC has shape {tuple(scores_IC.shape)}; it must be square with at least 2 rows")
    diagonal = torch.eye(len(scores_IC), dtype=torch.bool, device=scores_IC.device)
    if negatives == "hardest":
        off = scores_IC.masked_fill(diagonal, -torch.inf)
        return off.argmax(1), off.argmax(0)
    return _semi_hard(scores_IC, diagonal), _semi_hard(scores_IC.T, diagonal)


def _semi_hard(scores: Tensor, diagonal: Tensor) -> Tensor:
    below = scores < scores.diagonal()[:, None]
    easiest = scores.masked_fill(diagonal, torch.inf).argmin(1)
    return torch.where(below.any(1), scores.masked_fill(~below, -torch.inf).argmax(1), easiest)


def _hinge(positive: Tensor, caption: Tensor, image: Tensor, margin: float) -> Tensor:
    return (margin + caption - positive).relu().mean() + (margin + image - positive).relu().mean()


def powerset_loss(
    regions_IRD: Tensor,
    phrases_CPD: Tensor,
    *,
    margin: float = 0.2,
    negatives: str = "hardest",
    per_region: bool = False,
    region_mask: Tensor | None = None,
    phrase_mask: Tensor | None = None,
    aggregator: str = "nla",
    tau: float = 1e-3,
    zeta: float = 0.75,
    cost: float = 0.0,
    samples: int = 16,
    generator: torch.Generator | None = None,
    tile: int = 32,
) -> Tensor:
    """Triplet margin loss on S = R2T + T2R; image i belongs to caption i.

    per_region: divide S by the image's number of real regions. tile: images scored at once. The other arguments are
    those of `powerset_scores` and `triplet_margin`.

    Raises:
        ValueError: naming the argument at fault and its shape.
    """
    regions_IRD, phrases_CPD = _checked(regions_IRD, "regions_IRD"), _checked(phrases_CPD, "phrases_CPD")
    if len(regions_IRD) != len(phrases_CPD):
        raise ValueError(
            f"{len(regions_IRD)} images in regions_IRD, {len(phrases_CPD)} captions in phrases_CPD: need pairs"
        )
    region_mask = _mask(region_mask, regions_IRD, "region_mask")
    phrase_mask = _mask(phrase_mask, phrases_CPD, "phrase_mask")
    aggregation = make_aggregation(
        regions_IRD, aggregator=aggregator, tau=tau, zeta=zeta, cost=cost, samples=samples, generator=generator
    )
    units = (
        region_mask.sum(1).clamp_min(1).to(regions_IRD.dtype) if per_region else torch.ones_like(regions_IRD[:, 0, 0])
    )
    scores = tiled_scores(regions_IRD, phrases_CPD, region_mask, phrase_mask, aggregation, tile=tile) / units[:, None]
    column, row = mine(scores, negatives=negatives)

    def pair(image: Tensor, text: Tensor) -> Tensor:
        with torch.autocast(regions_IRD.device.type, enabled=False):
            similarity = phrases_CPD[text] @ regions_IRD[image].mT
            return aggregation(similarity, region_mask[image], phrase_mask[text]).total / units[image]

    index = torch.arange(len(scores), device=scores.device)
    return _hinge(pair(index, index), pair(index, column), pair(row, index), margin)


@torch.no_grad()
def tiled_scores(
    regions_IRD: Tensor,
    phrases_CPD: Tensor,
    region_mask: Tensor,
    phrase_mask: Tensor,
    aggregation: Aggregation,
    *,
    tile: int,
) -> Tensor:
    """S of all pairs, I C, without a graph, `tile` images at a time."""
    rows = [
        score_all(regions, phrases_CPD, mask, phrase_mask, aggregation).total
        for regions, mask in zip(regions_IRD.split(tile), region_mask.split(tile), strict=True)
    ]
    return torch.cat(rows)
