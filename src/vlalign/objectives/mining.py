"""Losses on powerset scores: the triplet margin, differentiated at the mined pairs alone (PowerCLIP, section 3), and
cross-entropy.

The gradient of a triplet loss with one negative per row touches three pairs per row. All pairs are scored without a
graph, in tiles; the negatives are found; only their pairs and the positives are scored again with a graph. Value and
gradient equal those of the naive loss, memory is O(I·C) instead of O(I·C·R·P).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.objectives.aggregator import DIRECTIONS, Aggregator, aggregator_of
from vlalign.objectives.distributed import Group, gather_plainly, own_rows, shared
from vlalign.objectives.numerics import check_tile, precise
from vlalign.objectives.powerset import EVERYTHING, Problem, Rows, check_pairs
from vlalign.objectives.subsets import NEVER

# The target of a pair that is left out of a cross-entropy.
IGNORED = -100
LOSSES = ("triplet", "cross-entropy")
NEGATIVES = ("hardest", "semi-hard")


def triplet_margin(scores_IC: Tensor, *, margin: float, negatives: str = "hardest") -> Tensor:
    """Mean over rows plus mean over columns of relu(margin + negative − positive); positives on the diagonal.

    Raises ValueError naming the argument and its shape.
    """
    scores_IC = precise(scores_IC)
    column, row = mine(scores_IC.detach(), negatives=negatives)
    index = torch.arange(len(scores_IC), device=scores_IC.device)
    positive = scores_IC.diagonal()
    return _hinge(positive, scores_IC[index, column], scores_IC[row, index], margin).mean()


def mine(scores_IC: Tensor, *, negatives: str, complete: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The negative caption of every image and the negative image of every caption.

    hardest: the highest score off the diagonal. semi-hard: the highest among those below the positive's; where there is
    none, the lowest score, whose gradient pushes least. complete: which pairs may be a negative; all if left out.
    """
    _check_choices(negatives=(negatives, NEGATIVES))
    if scores_IC.ndim != 2 or scores_IC.shape[0] != scores_IC.shape[1] or len(scores_IC) < 2:
        raise ValueError(f"scores_IC has shape {tuple(scores_IC.shape)}; it must be square with at least 2 rows")
    refused = torch.eye(len(scores_IC), dtype=torch.bool, device=scores_IC.device)
    if complete is not None:
        refused = refused | ~complete
    if negatives == "hardest":
        column, row = (scores.masked_fill(refused, -torch.inf).argmax(1) for scores in (scores_IC, scores_IC.T))
        return column, row
    return _semi_hard(scores_IC, refused), _semi_hard(scores_IC.T, refused)


def _semi_hard(scores: Tensor, refused: Tensor) -> Tensor:
    below = (scores < scores.diagonal()[:, None]) & ~refused
    easiest = scores.masked_fill(refused, torch.inf).argmin(1)
    return torch.where(below.any(1), scores.masked_fill(~below, -torch.inf).argmax(1), easiest)


def _hinge(positive: Tensor, caption: Tensor, image: Tensor, margin: float) -> Tensor:
    return (margin + caption - positive).relu() + (margin + image - positive).relu()


def powerset_loss(
    regions_IRD: Tensor,
    phrases_CPD: Tensor,
    *,
    loss: str = "triplet",
    margin: float = 0.2,
    negatives: str = "hardest",
    scale: float | Tensor = 1.0,
    per_region: bool = False,
    direction: str = "both",
    region_mask: Tensor | None = None,
    phrase_mask: Tensor | None = None,
    aggregator: str | Aggregator = "nla",
    cost: float | Tensor | str | None = None,
    generator: torch.Generator | None = None,
    tile: int | None = None,
    group: Group = None,
    **settings: Any,
) -> Tensor:
    """Loss on S = R2T + T2R; image i belongs to caption i.

    A pair whose image has no real region or whose caption has no real phrase is left out, as a negative too: its scores
    are 0 whatever it shows. Where fewer than two pairs remain the loss is 0. Arguments that are not explained here, and
    `settings` of the aggregator, are those of `powerset_scores`.

    Args:
        loss: `triplet`, the margin loss of `triplet_margin`: mean over rows plus mean over columns; or `cross-entropy`,
            that of scale · S: half of the same sum. Neither keeps a graph over all pairs beyond one tile.
        margin: of the triplet.
        negatives: of the triplet, `hardest` or `semi-hard`.
        scale: of the cross-entropy.
        per_region: divide S by the image's number of real regions.
        direction: `both`, or `r2t` or `t2r` alone.
        group: processes that hold a part of the pairs each; see `vlalign.objectives.distributed`. R and P must be the
            same in all of them (pad, and mask), and so must the state of `generator`.

    Raises ValueError naming the argument at fault and its shape.
    """
    _check_choices(loss=(loss, LOSSES), direction=(direction, DIRECTIONS), negatives=(negatives, NEGATIVES))
    check_pairs(regions_IRD, phrases_CPD)
    rule = aggregator_of(aggregator, cost, **settings)
    if group is not None and generator is None and rule.is_random:
        raise ValueError(
            "generator is missing: processes must draw the same subsets, from generators in the same state"
        )
    check_tile(tile)
    problem, rule = Problem.of(regions_IRD, phrases_CPD, region_mask, phrase_mask).with_phrases_of(rule)
    own = own_rows(len(problem.regions_IRD), group, regions_IRD.device)
    problem = problem.gathered(group)
    if len(problem.regions_IRD) < 2:
        return shared((problem.regions_IRD.sum() + problem.phrases_CPD.sum()) * 0, group)
    scored = Scored(problem, problem.prepared(rule, generator), direction, per_region, tile)
    # Left out by their mask: to drop their rows, the host would have to wait for the device.
    complete = problem.complete()
    if loss == "triplet":
        part = _triplet(scored, own, complete, margin, negatives, group)
    else:
        part = _cross_entropy(scored, own, complete, scale)
    count = complete.sum()
    return shared(torch.where(count < 2, 0 * part, part / count.clamp_min(1)), group)


class Scored(NamedTuple):
    """A problem with the rule by which its pairs are scored."""

    problem: Problem
    rule: Aggregator
    direction: str
    per_region: bool
    tile: int | None

    def all(self, images: slice, captions: slice) -> Tensor:
        """S of these images with these captions, I C."""
        part = self.problem.part(images, captions)
        return part.scores(self.rule, tile=self.tile).of(self.direction) / self._units(images)[:, None]

    def pairs(self, image: Rows, caption: Rows) -> Tensor:
        """S of the pairs (image[n], caption[n]), N."""
        return self.problem.pairs(self.rule, image, caption).of(self.direction) / self._units(image)

    def _units(self, images: Rows) -> Tensor:
        count = self.problem.region_mask[images].sum(1).clamp_min(1)
        return count if self.per_region else torch.ones_like(count)


def _triplet(scored: Scored, own: slice, complete: Tensor, margin: float, negatives: str, group: Group) -> Tensor:
    """Sum over this process's rows and columns."""
    with torch.no_grad():
        scores = gather_plainly(scored.all(own, EVERYTHING), group)
    column, row = mine(scores, negatives=negatives, complete=complete)
    index = torch.arange(len(scores), device=scores.device)[own]
    positive = scored.pairs(own, own)
    hinges = _hinge(positive, scored.pairs(index, column[own]), scored.pairs(row[own], index), margin)
    return hinges.masked_fill(~complete[own], 0).sum()


def _cross_entropy(scored: Scored, own: slice, complete: Tensor, scale: float | Tensor) -> Tensor:
    """Sum over this process's rows and columns, halved."""
    rows = scored.all(own, EVERYTHING)
    columns = rows if own == slice(0, rows.shape[1]) else scored.all(EVERYTHING, own)
    target = torch.arange(rows.shape[1], device=rows.device).masked_fill(~complete, IGNORED)[own]
    logits = ((scores * scale).masked_fill(~complete, NEVER) for scores in (rows, columns.T))
    both = (F.cross_entropy(one, target, reduction="sum", ignore_index=IGNORED) for one in logits)
    return sum(both, rows.new_zeros(())) / 2


def _check_choices(**choices: tuple[str, tuple[str, ...]]) -> None:
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}")
