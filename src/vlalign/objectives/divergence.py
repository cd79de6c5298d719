"""Divergences between clouds of points that compare means of kernels: Cauchy-Schwarz (CS-Aligner, section 3) and MMD.

D_CS = log mean k(x, x') + log mean k(y, y') − 2 · log mean k(x, y),   k(a, b) = mean over σ of exp(−|a − b|² / 2σ²)
MMD² = mean k(x, x') + mean k(y, y') − 2 · mean k(x, y)
"""

import functools

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vlalign.objectives.distributed import Group, gather_plainly, shared, total_plainly
from vlalign.objectives.kernels import Sigma, compare, kernel_widths, squared_distances
from vlalign.objectives.numerics import check_tile, checked_mask, mismatch, precise_pair, without_autocast


def cs_divergence(
    x_ND: Tensor, y_MD: Tensor, *, sigma: Sigma = "median", unbiased: bool = False, tile: int = 256, group: Group = None
) -> Tensor:
    """D_CS of two samples of any sizes; the points need not be paired, and an image may have several captions.

    Points should have one scale, such as unit length, for a fixed σ to mean something. Kernels are formed `tile` rows
    at a time, and the gradient with them, so that memory is O((N + M)·D + tile·(N + M)); it cannot be differentiated
    twice.

    Args:
        x_ND: the points of one sample.
        y_MD: the points of the other.
        sigma: kernel width, several of them (the kernels are averaged), or `median`: σ² is the median squared distance
            of all pairs of points, detached.
        unbiased: leave i = j out of the within-terms (U-statistic). For independent samples this takes away most of
            the V-statistic's bias. For pairs with x_i ≈ y_i it goes far below 0 where σ is small, since the cross-term
            keeps i = i: it then also drives the points of a cloud apart.
        tile: rows of a kernel matrix that are held at once.
        group: processes that hold a part of the points each; see `vlalign.objectives.distributed`.

    Raises ValueError naming the argument at fault and its shape.
    """
    return compare(x_ND, y_MD, sigma=sigma, unbiased=unbiased, tile=tile, group=group, logarithms=True)


def mmd(
    x_ND: Tensor, y_MD: Tensor, *, sigma: Sigma = "median", unbiased: bool = False, tile: int = 256, group: Group = None
) -> Tensor:
    """MMD², the squared maximum mean discrepancy, of two samples of any sizes; the points need not be paired.

    It is the squared distance between the two kernel mean embeddings (Gretton et al., 2012, JMLR 13:723-773, lemma 6),
    of which D_CS has the angle: at most 2, and with a gradient that vanishes where the clouds are many σ apart. Memory
    is that of `cs_divergence`, and it cannot be differentiated twice either.

    Args:
        x_ND: the points of one sample.
        y_MD: the points of the other.
        sigma: as in `cs_divergence`.
        unbiased: leave i = j out of the within-terms (U-statistic, equation 3 there), for which it takes two points of
            either sample. It may be slightly negative.
        tile: as in `cs_divergence`.
        group: processes that hold a part of the points each; see `vlalign.objectives.distributed`.

    Raises ValueError naming the argument at fault and its shape.
    """
    return compare(x_ND, y_MD, sigma=sigma, unbiased=unbiased, tile=tile, group=group, logarithms=False)


def token_cs_divergence(
    x_BVD: Tensor,
    y_BLD: Tensor,
    *,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
    sigma: Sigma = "median",
    unbiased: bool = False,
    tile: int = 256,
    group: Group = None,
) -> Tensor:
    """Mean over pairs of D_CS between an image's patch tokens and its caption's word tokens (CS-Aligner, section 3.3).

    Args:
        x_BVD: patch tokens of B pairs.
        y_BLD: word tokens of the same pairs.
        x_mask: B V, True for real tokens. A pair without enough of them on a side is left out of the mean.
        y_mask: B L, likewise.
        sigma: as in `cs_divergence`; the median is that of all pairs' tokens together.
        unbiased: as in `cs_divergence`.
        tile: pairs whose kernels are held at once; they are formed again in the backward pass.
        group: processes that hold a part of the pairs each; see `vlalign.objectives.distributed`.

    Raises ValueError naming the argument at fault and its shape.
    """
    if x_BVD.ndim != 3 or y_BLD.ndim != 3 or x_BVD.shape[::2] != y_BLD.shape[::2]:
        raise mismatch("3 dimensions, B and D must agree", x_BVD=x_BVD, y_BLD=y_BLD)
    check_tile(tile)
    x_mask, y_mask = checked_mask(x_mask, x_BVD, "x_mask"), checked_mask(y_mask, y_BLD, "y_mask")
    with without_autocast(x_BVD):
        x_BVD, y_BLD = precise_pair(x_BVD, y_BLD)
        least = 2 if unbiased else 1
        enough = (x_mask.sum(1) >= least) & (y_mask.sum(1) >= least)
        widths = kernel_widths(
            sigma,
            gather_plainly(x_BVD[enough][x_mask[enough]], group),
            gather_plainly(y_BLD[enough][y_mask[enough]], group),
        )
        parts = zip(*(torch.split(item[enough], tile) for item in (x_BVD, y_BLD, x_mask, y_mask)), strict=True)
        # Where there is no pair at all the loss is 0, and has a gradient.
        nothing = (x_BVD[x_mask].sum() + y_BLD[y_mask].sum()) * 0
        # Without intermediate results, which the backward pass makes again.
        pairwise = functools.partial(checkpoint, _pairwise, use_reentrant=False, preserve_rng_state=False)
        sums = [pairwise(*part, widths, unbiased).sum() for part in parts if len(part[0])]
        count = total_plainly(enough.sum(), group).clamp_min(1)
        return shared((sum(sums, nothing)) / count, group)


def _pairwise(x_BVD: Tensor, y_BLD: Tensor, x_mask: Tensor, y_mask: Tensor, widths: Tensor, unbiased: bool) -> Tensor:
    """D_CS of each pair's tokens, B."""
    within_x = _masked_log_mean(x_BVD, x_BVD, x_mask, x_mask, widths, off_diagonal=unbiased)
    within_y = _masked_log_mean(y_BLD, y_BLD, y_mask, y_mask, widths, off_diagonal=unbiased)
    return within_x + within_y - 2 * _masked_log_mean(x_BVD, y_BLD, x_mask, y_mask, widths)


def _masked_log_mean(
    x_BND: Tensor, y_BMD: Tensor, x_mask: Tensor, y_mask: Tensor, widths: Tensor, *, off_diagonal: bool = False
) -> Tensor:
    real = x_mask[:, :, None] & y_mask[:, None]
    if off_diagonal:
        real = real & ~torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
    # A masked token may hold anything, NaN included.
    x_BND, y_BMD = x_BND.masked_fill(~x_mask[..., None], 0), y_BMD.masked_fill(~y_mask[..., None], 0)
    exponents = squared_distances(x_BND, y_BMD)[..., None] / (-2 * widths)
    exponents = exponents.masked_fill(~real[..., None], -torch.inf)
    return torch.logsumexp(exponents.flatten(1), 1) - (real.sum((1, 2), dtype=widths.dtype) * len(widths)).log()
