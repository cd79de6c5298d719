"""Scores between the powerset of an image's regions and the phrases of a caption (PowerCLIP, sections 3 and 4).

Padded regions and phrases change nothing.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
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
            `holder(norm_order)`, `prefix(size_exponent)` and `logmean(softness)` let a subset pay for its size;
            norm_order may be a tensor, which is learnt: a scalar, or C P, one for every phrase.
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
    problem, rule = Problem.of(regions_IRD, phrases_CPD, region_mask, phrase_mask).with_phrases_of(
        aggregator_of(aggregator, cost, **settings)
    )
    return problem.scores(problem.prepared(rule, generator), tile=tile)


class Problem:
    """Checked regions and phrases with their masks: what is scored, by whichever aggregator.

    settings_CP: the aggregator's settings that every phrase has its own of, by name.
    """

    def __init__(
        self,
        regions_IRD: Tensor,
        phrases_CPD: Tensor,
        region_mask: Tensor,
        phrase_mask: Tensor,
        settings_CP: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        self.regions_IRD, self.phrases_CPD = regions_IRD, phrases_CPD
        self.region_mask, self.phrase_mask, self.settings_CP = region_mask, phrase_mask, settings_CP

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

    def with_phrases_of(self, rule: Aggregator) -> tuple["Problem", Aggregator]:
        """Takes those settings of a rule that every phrase has its own of, which then follow the phrases; and the rule
        without them.

        Raises ValueError naming a setting that is a tensor, but neither a scalar nor one for every phrase.
        """
        found = {name: value for name, value in rule.learnt().items() if name != "cost" and value.ndim}
        for name, value in found.items():
            if value.shape != self.phrase_mask.shape:
                phrases = tuple(self.phrase_mask.shape)
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}; it must be a scalar or C P, which is {phrases}"
                )
        plain: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(rule) if field.name in found}
        settings_CP = {name: value.to(self.phrases_CPD) for name, value in found.items()}
        problem = Problem(self.regions_IRD, self.phrases_CPD, self.region_mask, self.phrase_mask, settings_CP)
        return problem, dataclasses.replace(rule, **plain)

    def complete(self) -> Tensor:
        """Which pairs have a real region and a real phrase, N bool: without one there is nothing to align."""
        return self.region_mask.any(1) & self.phrase_mask.any(1)

    def gathered(self, group: Group) -> "Problem":
        """The regions and phrases of all processes, with gradients."""
        if group is None:
            return self
        regions_IRD, phrases_CPD = (gather(x, group) for x in (self.regions_IRD, self.phrases_CPD))
        region_mask, phrase_mask = (gather_plainly(mask, group) for mask in (self.region_mask, self.phrase_mask))
        settings_CP = {name: gather(x, group) for name, x in self.settings_CP.items()}
        return Problem(regions_IRD, phrases_CPD, region_mask, phrase_mask, settings_CP)

    def part(self, images: Rows, captions: Rows) -> "Problem":
        """These images and captions."""
        return Problem(
            self.regions_IRD[images],
            self.phrases_CPD[captions],
            self.region_mask[images],
            self.phrase_mask[captions],
            self._settings(captions),
        )

    def _settings(self, captions: Rows) -> dict[str, Tensor]:
        return {name: value[captions] for name, value in self.settings_CP.items()}

    def prepared(self, rule: Aggregator, generator: torch.Generator | None) -> Aggregator:
        """The rule with its cost, its subsets, and what is fitted to some pairs that belong together (where I = C) and
        as many that do not: all that is found once for all pairs.
        """
        like, captions = self.regions_IRD, len(self.phrases_CPD)
        if isinstance(rule.cost, str):
            rule = dataclasses.replace(rule, cost=self.mean_similarity())
        rule = dataclasses.replace(rule, **{name: x.reshape(()).to(like) for name, x in rule.learnt().items()})
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
            rule = dataclasses.replace(rule, **self._settings(caption))
            return rule(self.similarity(image, caption), self.region_mask[image], self.phrase_mask[caption])

    def scores(self, rule: Aggregator, *, tile: int | None = None) -> PowersetScores:
        """Scores of all pairs, I C in either direction, tile by tile."""
        held = rule.columns(self.regions_IRD.shape[1]) * self.phrases_CPD.shape[1]
        tile = tile or max(1, math.isqrt(TILE_ELEMENTS // max(1, held)))
        if max(self.region_mask.shape[0], self.phrase_mask.shape[0]) <= tile:
            return self.tile(rule, EVERYTHING, EVERYTHING)
        learnt, settings_CP = rule.learnt(), self.settings_CP
        tensors = (self.regions_IRD, self.phrases_CPD, *learnt.values(), *settings_CP.values())
        return PowersetScores(*_Tiled.apply(self, rule, tile, tuple(learnt), tuple(settings_CP), *tensors))

    def tile(self, rule: Aggregator, images: slice, captions: slice) -> PowersetScores:
        """Scores of these images with these captions, all at once."""
        with without_autocast(self.regions_IRD):
            similarity = torch.einsum("ird,cpd->icpr", self.regions_IRD[images], self.phrases_CPD[captions])
            rule = dataclasses.replace(rule, **self._settings(captions))
            return rule(similarity, self.region_mask[images, None], self.phrase_mask[None, captions])


class _Tiled(torch.autograd.Function):
    """Scores of all pairs, in tiles that the backward pass computes again.

    torch.utils.checkpoint around each tile gives the same, but every tile then has a gradient of the size of all
    features, and its small result, kept between large passing ones, tears up the heap.
    """

    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
        rule: Aggregator,
        tile: int,
        learnt: tuple[str, ...],
        settings_CP: tuple[str, ...],
        *tensors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """tensors: regions, phrases, and then by their names those that the rule, and those that every phrase has."""
        ctx.save_for_backward(*tensors)
        ctx.problem, ctx.rule, ctx.learnt, ctx.settings_CP = problem, rule, learnt, settings_CP
        images, captions = len(problem.regions_IRD), len(problem.phrases_CPD)
        ctx.tiles = [
            (slice(i, i + tile), slice(c, c + tile)) for i in range(0, images, tile) for c in range(0, captions, tile)
        ]
        r2t, t2r = (tensors[0].new_empty(images, captions) for _ in PowersetScores._fields)
        for rows, columns in ctx.tiles:
            part = problem.tile(rule, rows, columns)
            r2t[rows, columns], t2r[rows, columns] = part.r2t, part.t2r
        return r2t, t2r

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order("a powerset score of several tiles")
        sums = [torch.zeros_like(x) for x in ctx.saved_tensors]
        masks = ctx.problem.region_mask, ctx.problem.phrase_mask
        for images, captions in ctx.tiles:
            rows = (images, captions, *[...] * len(ctx.learnt), *[captions] * len(ctx.settings_CP))
            leaves = [x[row].detach().requires_grad_() for x, row in zip(ctx.saved_tensors, rows, strict=True)]
            regions, phrases, *others = leaves
            learnt = dict(zip(ctx.learnt, others, strict=False))
            settings_CP = dict(zip(ctx.settings_CP, others[len(learnt) :], strict=True))
            with torch.enable_grad():
                part = Problem(regions, phrases, masks[0][images], masks[1][captions], settings_CP)
                scores = part.tile(dataclasses.replace(ctx.rule, **learnt), EVERYTHING, EVERYTHING)
            found = torch.autograd.grad(scores, leaves, [gradient[images, captions] for gradient in gradients])
            for total, row, gradient in zip(sums, rows, found, strict=True):
                total[row] += gradient
        return *[None] * 5, *sums


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
