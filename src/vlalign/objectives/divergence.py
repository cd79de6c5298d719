"""Cauchy-Schwarz divergence between two clouds of points (CS-Aligner, section 3).

    D_CS = log mean k(x, x') + log mean k(y, y') − 2 · log mean k(x, y),   k(a, b) = exp(−|a − b|² / 2σ²)

In log space and in fp32 (fp64 for fp64 input): the mean of kernels underflows to log 0 at small σ.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def cs_divergence(
    x_ND: Tensor, y_MD: Tensor, *, sigma: float | str | Sequence[float] = "median", unbiased: bool = False
) -> Tensor:
    """D_CS of two samples, of any sizes; the points need not be paired.

    sigma: kernel width, several of them (the kernels are averaged), or `median`: σ² is the median squared distance of
    all pairs of points, detached. unbiased: leave i = j out of the within-terms (the V-statistic's bias is 0.6 at
    N = 128 and σ = 0.5).

    Raises:
        ValueError: naming the argument at fault and its shape.
    """
    for name, points in (("x_ND", x_ND), ("y_MD", y_MD)):
        if points.ndim != 2 or len(points) < (2 if unbiased else 1):
            raise ValueError(f"{name} has shape {tuple(points.shape)}; it must be two-dimensional with enough rows")
    with torch.autocast(x_ND.device.type, enabled=False):
        x_ND, y_MD = (points if points.dtype == torch.float64 else points.float() for points in (x_ND, y_MD))
        within_x, within_y = squared_distances(x_ND, x_ND), squared_distances(y_MD, y_MD)
        between = squared_distances(x_ND, y_MD)
        widths = _widths(sigma, within_x, within_y, between)
        return (
            _log_mean_kernel(within_x, widths, off_diagonal=unbiased)
            + _log_mean_kernel(within_y, widths, off_diagonal=unbiased)
            - 2 * _log_mean_kernel(between, widths)
        )


def squared_distances(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """|x − y|² of all pairs, N M, with a gradient at zero distance (unlike torch.cdist's)."""
    return (x_ND.square().sum(1)[:, None] + y_MD.square().sum(1)[None] - 2 * x_ND @ y_MD.T).clamp_min(0)


def _widths(sigma: float | str | Sequence[float], *distances: Tensor) -> list[float | Tensor]:
    """σ² of each kernel."""
    if sigma == "median":
        return [torch.cat([distance.detach().flatten() for distance in distances]).median().clamp_min(1e-12)]
    if isinstance(sigma, str):
        raise ValueError(f"sigma is {sigma!r}; it must be a number, several numbers, or 'median'")
    values: list[float] = [*sigma] if isinstance(sigma, Sequence) else [sigma]
    if not values or min(values) <= 0:
        raise ValueError(f"sigma is {sigma!r}; it must be above 0")
    return [value**2 for value in values]


def _log_mean_kernel(distances_NM: Tensor, widths: list[float | Tensor], *, off_diagonal: bool = False) -> Tensor:
    """log of the mean kernel over all pairs, or over the pairs off the diagonal."""
    rows, columns = distances_NM.shape
    exponents = torch.stack([-distances_NM / (2 * width) for width in widths])
    count = rows * columns
    if off_diagonal:
        diagonal = torch.eye(rows, columns, dtype=torch.bool, device=distances_NM.device)
        exponents = exponents.masked_fill(diagonal, -torch.inf)
        count -= rows
    return torch.logsumexp(exponents.flatten(), 0) - math.log(count * len(widths))
