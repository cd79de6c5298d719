"""Wasserstein distance between clouds of points, on lines."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.objectives.distributed import Group, gather
from vlalign.objectives.numerics import check_counts, check_shapes, precise_pair, without_autocast


def sliced_wasserstein(
    x_ND: Tensor,
    y_MD: Tensor,
    *,
    projections: int = 128,
    generator: torch.Generator | None = None,
    group: Group = None,
) -> Tensor:
    """SW₂², the squared sliced 2-Wasserstein distance of two samples of any sizes; the points need not be paired.

    The mean over random directions θ of the squared 2-Wasserstein distance of the points' projections on θ (Bonneel et
    al., 2015, https://doi.org/10.1007/s10851-014-0506-3, definition 6), each exact: the integral over u of
    |F⁻¹(u) − G⁻¹(u)|² with the quantile functions F⁻¹ and G⁻¹. D times it has the unit of a squared distance: a cloud
    and itself moved by v are |v|² / D apart. Samples of one distribution are not 0 apart, but the less the more points.

    Args:
        x_ND: the points of one sample.
        y_MD: the points of the other.
        projections: how many directions are drawn.
        generator: for the directions; torch's own where it is left out. Processes need one in the same state each.
        group: processes that hold a part of the points each; see `vlalign.objectives.distributed`.

    Raises ValueError naming the argument at fault and its value or shape.
    """
    check_shapes(x_ND, y_MD)
    if projections < 1:
        raise ValueError(f"projections is {projections}; it must be at least 1")
    if group is not None and generator is None:
        raise ValueError("generator is missing: processes must draw the same directions, from generators in one state")
    with without_autocast(x_ND):
        x_ND, y_MD = precise_pair(x_ND, y_MD)
        x_ND, y_MD = gather(x_ND, group), gather(y_MD, group)
        check_counts(1, x_ND=x_ND, y_MD=y_MD)
        device = generator.device if generator is not None else x_ND.device
        drawn = torch.randn(x_ND.shape[1], projections, generator=generator, device=device)
        directions = F.normalize(drawn.to(x_ND), dim=0)
        x_sorted, y_sorted = ((points @ directions).sort(0).values for points in (x_ND, y_MD))
        x_rows, y_rows, shares = _steps(len(x_ND), len(y_MD), x_ND.device)
        between = (x_sorted[x_rows] - y_sorted[y_rows]).square().mean(1)
        return between @ shares.to(between) / (len(x_ND) * len(y_MD))


def _steps(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where two quantile functions of n and m points are both constant: rows of either sample, and how many of n·m
    equal parts. In whole numbers; where both functions step at once, one of the two steps has no part.
    """
    edges = torch.cat((torch.arange(n + 1, device=device) * m, torch.arange(m, device=device) * n)).sort().values
    return edges[:-1] // m, edges[:-1] // n, edges.diff()
