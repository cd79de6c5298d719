"""Scores between the powerset of an image's regions and the phrases of a caption (PowerCLIP, sections 3 and 4).

Padded regions and phrases change nothing.
"""

import dataclasses
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.objectives.aggregator import Aggregator, PowersetScores, aggregator_of
from vlalign.objectives.distributed import Group, gather, gather_plainly
from vlalign.objectives.numerics import (
    check_dimensions,
    check_tile,
    checked_mask,
    mismatch,
    precise_pair,
    refuse_second_order,
    without_autocast,
)

# Similarities that are held at once, unless the caller says otherwise: 4 MiB in fp32, near the size of a cache.
TILE_ELEMENTS = 2**20
FITTED_PAIRS = 256
Rows = Tensor | slice
EVERYTHING = slice(None)


def powerset_scores(
    regions_IRD: Tensor,
    phrases_CPD: Tensor,
    *,
    region_mask: Tensor | None = None,
    phrase_mask: Tensor | None = None,
    aggregator: str | Aggregator = "nla",
    cost: float | Tensor | str | None = None,
    generator: torch.Generator | None = None,
    tile: int | None = None,
    **settings: Any,
) -> PowersetScores:
    """Scores of every image with every caption, I C in either direction; 0 without a real region or a real phrase.

    Pairs are scored in tiles of `tile` images and as many captions; where there are several tiles, the backward pass
    computes each again, so that memory is O(I·C) and not O(I·C·R·P); such scores cannot be differentiated twice.

    Args:
        regions_IRD: regions φ.
        phrases_CPD: phrases p.
        region_mask: I R, True for real regions.
        phrase_mask: C P, True for real phrases.
        aggregator: the rule from similarities to scores, or its name with its `settings`: `nla(tau, zeta, activation)`
            is T1 + T2 of the paper, O(R); `exact` enumerates the subsets (R at most 16); `sampled(samples)` has exact
            T2R and R2T over random subsets (unbiased); `calibrated(tau, activation, samples)` is `nla` with the ζ that
            fits the batch. These have `empty_subset`: whether choosing no region at all counts, as published.
            `holder(norm_order)`, `prefix(size_exponent)` and `logmean(temperature)` let a subset pay for its size.
            `mean` and `max` are controls without subsets: the sum over all regions, and R times the single best one.
            Settings of other aggregators mean nothing, as in params.
        cost: b, what each chosen region costs: a number, a scalar tensor that is learnt, or `batch`: the mean
            similarity of an image's own regions and phrases (see `batch_cost`; needs I = C). The controls take it off
            every similarity too. That of the aggregator if left out, which is 0.
        generator: of the random subsets, on the CPU; torch's global one if left out.
        tile: images, and captions, at a time; by default as many as keep the similarities below a million.

    Raises ValueError naming the argument at fault and its shape.
    """
    check_tile(tile)
    problem = Problem.of(regions_IRD, phrases_CPD, region_mask, phrase_mask)
    rule = aggregator_of(aggregator, cost, **settings)
    return problem.scores(problem.prepared(rule, generator), tile=tile)


class Problem:
    """Checked regions and phrases with their masks: what is scored, by whichever aggregator."""

    def __init__(self, regions_IRD: Tensor, phrases_CPD: Tensor, region_mask: Tensor, phrase_mask: Tensor) -> None:
        self.regions_IRD, self.phrases_CPD = regions_IRD, phrases_CPD
        self.region_mask, self.phrase_mask = region_mask, phrase_mask

    @classmethod
    def of(
        cls, regions_IRD: Tensor, phrases_CPD: Tensor, region_mask: Tensor | None, phrase_mask: Tensor | None
    ) -> "Problem":
        """Raises ValueError naming the argument at fault and its shape."""
        check_dimensions(regions_IRD=regions_IRD, phrases_CPD=phrases_CPD)
        if regions_IRD.shape[2] != phrases_CPD.shape[2]:
            raise mismatch("D must agree", regions_IRD=regions_IRD, phrases_CPD=phrases_CPD)
        regions_IRD, phrases_CPD = precise_pair(regions_IRD, phrases_CPD)
        regions_IRD, region_mask = _real(regions_IRD, region_mask, "region_mask")
        phrases_CPD, phrase_mask = _real(phrases_CPD, phrase_mask, "phrase_mask")
        return cls(regions_IRD, phrases_CPD, region_mask, phrase_mask)

    def complete(self) -> Tensor:
        """Which pairs have a real region and a real phrase, N bool: without one there is nothing to align."""
        return self.region_mask.any(1) & self.phrase_mask.any(1)

    def gathered(self, group: Group) -> "Problem":
        """The regions and phrases of all processes, with gradients."""
        if group is None:
            return self
        features = (gather(x, group) for x in (self.regions_IRD, self.phrases_CPD))
        masks = (gather_plainly(mask, group) for mask in (self.region_mask, self.phrase_mask))
        return Problem(*features, *masks)

    def part(self, images: Rows, captions: Rows) -> "Problem":
        """These images and captions."""
        return Problem(
            self.regions_IRD[images], self.phrases_CPD[captions], self.region_mask[images], self.phrase_mask[captions]
        )

    def prepared(self, rule: Aggregator, generator: torch.Generator | None) -> Aggregator:
        """The rule with its cost, its subsets, and what is fitted to some pairs that belong together (where I = C) and
        as many that do not: all that is found once for all pairs.
        """
        like, captions = self.regions_IRD, len(self.phrases_CPD)
        if isinstance(rule.cost, str):
            rule = dataclasses.replace(rule, cost=self.mean_similarity())
        elif isinstance(rule.cost, Tensor):
            rule = dataclasses.replace(rule, cost=rule.cost.reshape(()).to(like))
        rule = rule.draw(like.shape[1], like=like, generator=generator)
        if not rule.is_fitted:
            return rule
        image = torch.arange(min(len(like), FITTED_PAIRS) if captions else 0, device=like.device)
        pairs = [(image, (image + shift) % max(1, captions)) for shift in (0, 1)]
        i, c = (torch.cat(part) for part in zip(*pairs, strict=True))
        with torch.no_grad(), without_autocast(like):
            return rule.fit(self.similarity(i, c), self.region_mask[i], self.phrase_mask[c])

    @torch.no_grad()
    def mean_similarity(self) -> Tensor:
        """Of the real regions and phrases of pairs that belong together, a scalar."""
        check_pairs(self.regions_IRD, self.phrases_CPD)
        # What is not real is zero.
        whole = (self.regions_IRD.sum(1) * self.phrases_CPD.sum(1)).sum()
        return whole / (self.region_mask.sum(1) * self.phrase_mask.sum(1)).sum().clamp_min(1)

    def similarity(self, image: Rows, caption: Rows) -> Tensor:
        """s of the pairs (image[n], caption[n]), N P R."""
        return self.phrases_CPD[caption] @ self.regions_IRD[image].mT

    def pairs(self, rule: Aggregator, image: Rows, caption: Rows) -> PowersetScores:
        """Scores of the pairs (image[n], caption[n]), N in either direction."""
        with without_autocast(self.regions_IRD):
            return rule(self.similarity(image, caption), self.region_mask[image], self.phrase_mask[caption])

    def scores(self, rule: Aggregator, *, tile: int | None = None) -> PowersetScores:
        """Scores of all pairs, I C in either direction, tile by tile."""
        held = rule.columns(self.regions_IRD.shape[1]) * self.phrases_CPD.shape[1]
        tile = tile or max(1, math.isqrt(TILE_ELEMENTS // max(1, held)))
        if max(self.region_mask.shape[0], self.phrase_mask.shape[0]) <= tile:
            return self.tile(rule, EVERYTHING, EVERYTHING)
        cost = torch.as_tensor(rule.cost, dtype=self.regions_IRD.dtype, device=self.regions_IRD.device)
        return PowersetScores(*_Tiled.apply(self.regions_IRD, self.phrases_CPD, cost, self, rule, tile))

    def tile(self, rule: Aggregator, images: slice, captions: slice) -> PowersetScores:
        """Scores of these images with these captions, all at once."""
        with without_autocast(self.regions_IRD):
            similarity = torch.einsum("ird,cpd->icpr", self.regions_IRD[images], self.phrases_CPD[captions])
            return rule(similarity, self.region_mask[images, None], self.phrase_mask[None, captions])


class _Tiled(torch.autograd.Function):
    """Scores of all pairs, in tiles that the backward pass computes again.

    torch.utils.checkpoint around each tile gives the same, but every tile then has a gradient of the size of all
    features, and its small result, kept between large passing ones, tears up the heap.
    """

    @staticmethod
    def forward(
        ctx: Any, regions_IRD: Tensor, phrases_CPD: Tensor, cost: Tensor, problem: Problem, rule: Aggregator, tile: int
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(regions_IRD, phrases_CPD, cost)
        ctx.problem, ctx.rule = problem, rule
        ctx.tiles = [
            (slice(i, i + tile), slice(c, c + tile))
            for i in range(0, len(regions_IRD), tile)
            for c in range(0, len(phrases_CPD), tile)
        ]
        r2t, t2r = (regions_IRD.new_empty(len(regions_IRD), len(phrases_CPD)) for _ in PowersetScores._fields)
        for images, captions in ctx.tiles:
            part = problem.tile(rule, images, captions)
            r2t[images, captions], t2r[images, captions] = part.r2t, part.t2r
        return r2t, t2r

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order("a powerset score of several tiles")
        regions_IRD, phrases_CPD, cost = ctx.saved_tensors
        sums = [torch.zeros_like(x) for x in ctx.saved_tensors]
        masks = ctx.problem.region_mask, ctx.problem.phrase_mask
        for images, captions in ctx.tiles:
            leaves = [x.detach().requires_grad_() for x in (regions_IRD[images], phrases_CPD[captions], cost)]
            regions, phrases, b = leaves
            with torch.enable_grad():
                part = Problem(regions, phrases, masks[0][images], masks[1][captions])
                scores = part.tile(dataclasses.replace(ctx.rule, cost=b), EVERYTHING, EVERYTHING)
            found = torch.autograd.grad(scores, leaves, [gradient[images, captions] for gradient in gradients])
            for total, gradient in zip((sums[0][images], sums[1][captions], sums[2]), found, strict=True):
                total += gradient
        return *sums, None, None, None


def batch_cost(
    regions_IRD: Tensor, phrases_CPD: Tensor, *, region_mask: Tensor | None = None, phrase_mask: Tensor | None = None
) -> Tensor:
    """b from the batch: the mean similarity of the real regions and phrases of pairs that belong together, a scalar.

    With it about half of an image's own regions are worth choosing, whatever the scale of the features.
    """
    return Problem.of(regions_IRD, phrases_CPD, region_mask, phrase_mask).mean_similarity()


def check_pairs(regions_IRD: Tensor, phrases_CPD: Tensor) -> None:
    """Raises ValueError unless there are as many images as captions."""
    if len(regions_IRD) != len(phrases_CPD):
        raise ValueError(
            f"{len(regions_IRD)} images in regions_IRD, {len(phrases_CPD)} captions in phrases_CPD: need pairs"
        )


def _real(x: Tensor, mask: Tensor | None, name: str) -> tuple[Tensor, Tensor]:
    """x without what its padding holds, which may be NaN, and at least one vector in every row; and its mask."""
    real = checked_mask(mask, x, name)
    if mask is not None:
        x = x.masked_fill(~real[..., None], 0)
    if x.shape[1] == 0:
        x, real = F.pad(x, (0, 0, 0, 1)), F.pad(real, (0, 1))
    return x, real
