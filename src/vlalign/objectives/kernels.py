"""Gaussian kernels between clouds of points, a tile of rows at a time: k(a, b) = mean over σ of exp(−|a − b|² / 2σ²).

Everything is in log space, since the mean of kernels underflows to log 0 at small σ.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vlalign.objectives.distributed import Group, gather_plainly, own_rows, total_plainly, world
from vlalign.objectives.numerics import (
    check_counts,
    check_shapes,
    check_tile,
    precise_pair,
    refuse_second_order,
    without_autocast,
)

Sigma = float | str | Sequence[float]
# The median of the distances is taken over at most this many points of either cloud, evenly spaced.
MEDIAN_POINTS = 1024


def compare(
    x_ND: Tensor, y_MD: Tensor, *, sigma: Sigma, unbiased: bool, tile: int, group: Group, logarithms: bool
) -> Tensor:
    """f(mean k(x, x')) + f(mean k(y, y')) − 2 · f(mean k(x, y)), where f is the logarithm, or leaves a mean as it is.

    The arguments are those of `vlalign.objectives.divergence.cs_divergence`, which raises the same.
    """
    check_shapes(x_ND, y_MD)
    check_tile(tile)
    with without_autocast(x_ND):
        x_ND, y_MD = precise_pair(x_ND, y_MD)
        all_x, all_y = gather_plainly(x_ND, group), gather_plainly(y_MD, group)
        check_counts(2 if unbiased else 1, x_ND=all_x, y_MD=all_y)
        with torch.no_grad():
            middle_D = (all_x.mean(0) + all_y.mean(0)) / 2
            widths = kernel_widths(sigma, all_x, all_y)
        # Distances do not change, and large norms no longer cancel in them.
        x_ND, y_MD = x_ND - middle_D, y_MD - middle_D
        if group is None:
            all_x, all_y = x_ND.detach(), y_MD.detach()
        else:
            all_x, all_y = all_x - middle_D, all_y - middle_D
        found: Tensor = _Comparison.apply(x_ND, y_MD, all_x, all_y, _Kernel(widths, tile, unbiased, group, logarithms))
        return found


def kernel_widths(sigma: Sigma, x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """σ² of each kernel, detached."""
    if sigma == "median":
        points = torch.cat([_evenly(cloud.detach(), MEDIAN_POINTS) for cloud in (x_ND, y_MD)])
        distances = squared_distances(points, points)[*torch.triu_indices(len(points), len(points), 1)]
        return (distances.median() if len(distances) else distances.new_ones(())).clamp_min(1e-12)[None]
    if isinstance(sigma, str):
        raise ValueError(f"sigma is {sigma!r}; it must be a number, several numbers, or 'median'")
    values: list[float] = [*sigma] if isinstance(sigma, Sequence) else [sigma]
    if not values or min(values) <= 0:
        raise ValueError(f"sigma is {sigma!r}; it must be above 0")
    return x_ND.new_tensor(values).square()


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x − y|² of all pairs, [..., N, M], with a gradient at zero distance (unlike torch.cdist's)."""
    norms = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
    return (norms - 2 * x @ y.mT).clamp_min(0)


class _Kernel(NamedTuple):
    """σ² of each kernel, rows that are held at once, whether i = j is left out, who shares the points, and whether
    logarithms of means are compared.
    """

    widths: Tensor
    tile: int
    unbiased: bool
    group: Group
    logarithms: bool

    def term(self, weight: float, log_mean: Tensor) -> tuple[Tensor, Tensor | float]:
        """A mean's share of the value, and by what it multiplies the gradient of the mean's logarithm."""
        value = weight * (log_mean if self.logarithms else log_mean.exp())
        return value, weight if self.logarithms else value


class _Comparison(torch.autograd.Function):
    """`compare` with the gradient found in the forward pass, while each tile of the kernel matrices is at hand."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, y_MD: Tensor, all_x: Tensor, all_y: Tensor, kernel: _Kernel) -> Tensor:
        own_x, own_y = (own_rows(len(cloud), kernel.group, cloud.device) for cloud in (x_ND, y_MD))
        between, x_gradient, y_gradient = _log_mean_kernel(x_ND, all_y, kernel, pairs=len(all_x) * len(all_y))
        value, factor = kernel.term(-2, between)
        for cloud, everyone, gradient, own in (
            (x_ND, all_x, x_gradient.mul_(factor), own_x),
            (y_MD, all_y, y_gradient[own_y].mul_(factor), own_y),
        ):
            pairs = len(everyone) * (len(everyone) - kernel.unbiased)
            within, cloud_gradient, _ = _log_mean_kernel(cloud, everyone, kernel, pairs=pairs, within=own)
            share, factor = kernel.term(1, within)
            value = value + share
            gradient += cloud_gradient.mul_(factor)
        # The mean over the processes, which DDP takes, has to be the gradient of the whole.
        ctx.save_for_backward(x_gradient, y_gradient[own_y])
        ctx.processes, ctx.name = world(kernel.group), "cs_divergence" if kernel.logarithms else "mmd"
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order(ctx.name)
        x_gradient, y_gradient = ctx.saved_tensors
        scale = gradients[0] * ctx.processes
        return scale * x_gradient, scale * y_gradient, None, None, None


def _log_mean_kernel(
    x_ND: Tensor, y_MD: Tensor, kernel: _Kernel, *, pairs: int, within: slice | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """log mean k over all pairs, and its gradients: of this process's x_ND, and of all y_MD (unless within one cloud).

    pairs: of all processes together. within: if y_MD is the cloud of x_ND, which of its rows these are.

    One pass: the sums are kept relative to the largest exponent so far, and scaled when a larger one turns up. Within a
    cloud that one process holds, the tiles left of the diagonal mirror those right of it and are not formed.
    """
    mirrored = within is not None and kernel.group is None
    largest, total = x_ND.new_tensor(-torch.inf), x_ND.new_zeros(())
    x_sum, y_sum = torch.zeros_like(x_ND), torch.zeros_like(y_MD if within is None else y_MD[:0])
    x_norms, y_norms = x_ND.square().sum(1), y_MD.square().sum(1)
    for start in range(0, len(x_ND), kernel.tile):
        tile = slice(start, start + kernel.tile)
        rows, columns = x_ND[tile], y_MD[start:] if mirrored else y_MD
        distances = torch.addmm(y_norms[-len(columns) :], rows, columns.T, alpha=-2)
        distances.add_(x_norms[tile, None]).clamp_min_(0)
        if within is not None and kernel.unbiased:
            distances.diagonal(0 if mirrored else within.start + start).fill_(torch.inf)
        before, largest = largest, torch.maximum(largest, -distances.min() / (2 * kernel.widths.max()))
        _rescale((before - largest).exp(), total, x_sum, y_sum)
        sum_of_tile, pull = _kernel_sums(distances, largest, kernel.widths, len(rows) if mirrored else None)
        total += sum_of_tile
        _pull(x_sum[tile], rows, pull, columns)
        if mirrored:
            _pull(x_sum[start + len(rows) :], columns[len(rows) :], pull[:, len(rows) :].T, rows)
        elif within is None:
            _pull(y_sum, y_MD, pull.T, rows)
    if kernel.group is not None:
        own, largest = largest, total_plainly(largest, kernel.group, largest=True)
        _rescale((own - largest).exp(), total, x_sum, y_sum)
        total, y_sum = total_plainly(total, kernel.group), total_plainly(y_sum, kernel.group)
    # Each pair within a cloud counts twice, once from either end.
    x_sum.mul_((1 if within is None else 2) / total)
    return largest + total.log() - math.log(pairs * len(kernel.widths)), x_sum, y_sum.div_(total)


def _kernel_sums(distances: Tensor, largest: Tensor, widths: Tensor, twice_from: int | None) -> tuple[Tensor, Tensor]:
    """Sum of a tile's kernels, its columns from `twice_from` on counted twice, and Σ over kernels of k / σ²."""
    total, pull = distances.new_zeros(()), None
    for width in widths:
        values = torch.mul(distances, -0.5 / width).sub_(largest).exp_()
        total += values.sum()
        if twice_from is not None:
            total += values[:, twice_from:].sum()
        values.div_(width)
        pull = values if pull is None else pull.add_(values)
    assert pull is not None
    return total, pull


def _pull(sums: Tensor, points: Tensor, pull: Tensor, others: Tensor) -> None:
    """sums_i += Σ_j pull_ij (other_j − point_i)"""
    sums.addmm_(pull, others).addcmul_(pull.sum(1, keepdim=True), points, value=-1)


def _rescale(factor: Tensor, *sums: Tensor) -> None:
    for kept in sums:
        kept *= factor


def _evenly(points: Tensor, count: int) -> Tensor:
    if len(points) <= count:
        return points
    return points[torch.linspace(0, len(points) - 1, count, device=points.device).long()]
