"""Random boxes as regions (PowerCLIP-R), straight on the patch grid."""

import random

import torch
from torch import Tensor


def random_boxes(draw: random.Random, count: int, grid: tuple[int, int]) -> Tensor:
    """Coverage R V of a patch grid by boxes whose centres, widths and heights are uniform (PowerCLIP-R), cut at the
    border; at least an eighth of each side.
    """
    drawn = torch.tensor([[draw.random(), draw.uniform(0.125, 1.0)] for _ in range(2 * count)])
    low, high = (drawn[:, 0] - drawn[:, 1] / 2).clamp(min=0), (drawn[:, 0] + drawn[:, 1] / 2).clamp(max=1)
    rows_RH, columns_RW = (_overlap(low[k::2], high[k::2], cells) for k, cells in enumerate(grid))
    return (rows_RH[:, :, None] * columns_RW[:, None, :]).flatten(1)


def _overlap(low_R: Tensor, high_R: Tensor, cells: int) -> Tensor:
    """Share of each cell of the unit interval that lies between low and high."""
    edges = torch.arange(cells) / cells
    ends = torch.minimum(high_R[:, None], edges + 1 / cells) - torch.maximum(low_R[:, None], edges)
    return ends.clamp(min=0) * cells
