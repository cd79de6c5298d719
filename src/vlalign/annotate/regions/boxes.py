"""Random boxes as regions (PowerCLIP-R), straight on the patch grid."""

import random

import torch
from torch import Tensor


def random_boxes(draw: random.Random, count: int, grid: tuple[int, int]) -> Tensor:
    """Coverage R V of a patch grid by boxes of uniform centres and sides, at least an eighth, cut at the border."""
    drawn = torch.tensor([[draw.random(), draw.uniform(0.125, 1.0)] for _ in range(2 * count)])
    low, high = (drawn[:, 0] - drawn[:, 1] / 2).clamp(min=0), (drawn[:, 0] + drawn[:, 1] / 2).clamp(max=1)
    shares = []
    for axis, cells in enumerate(grid):
        edges = torch.arange(cells) / cells
        ends = torch.minimum(high[axis::2, None], edges + 1 / cells) - torch.maximum(low[axis::2, None], edges)
        shares.append(ends.clamp(min=0) * cells)
    return (shares[0][:, :, None] * shares[1][:, None, :]).flatten(1)
