"""Masks that are worse than those that were found, to see what a loss makes of them.

Suffixes: R masks of one picture, H W cells, N cells of one mask, B blocks.
"""

import random

import numpy as np

from vlalign.params import RegionDamage

# Of a mask's box, along either side: a hole is a part of an object, whatever its size, and not a speck.
BLOCKS = 3


def damaged(masks_RHW: np.ndarray, damage: RegionDamage, draw: random.Random) -> np.ndarray:
    """The bool masks with what is spoilt in them; a function of what `draw` gives next. No mask vanishes."""
    partners = [_partner(mask, len(masks_RHW), damage.merges, draw) for mask in range(len(masks_RHW))]
    merged_RHW = masks_RHW | masks_RHW[partners]
    for mask_HW in merged_RHW:
        _cut_holes(mask_HW, damage.holes, draw)
    return merged_RHW


def _partner(mask: int, count: int, probability: float, draw: random.Random) -> int:
    """Another mask that this one also covers, each as likely as the others; itself where it covers none."""
    others = [other for other in range(count) if other != mask]
    return draw.choice(others) if others and draw.random() < probability else mask


def _cut_holes(mask_HW: np.ndarray, share: float, draw: random.Random) -> None:
    """Empty random blocks of a mask's box, as many as come closest to a share of its cells, but not all."""
    rows_N, columns_N = np.nonzero(mask_HW)
    row_N, column_N = _block(rows_N), _block(columns_N)
    sizes_B = np.bincount(row_N * BLOCKS + column_N, minlength=BLOCKS**2)
    order_B = np.array(draw.sample(range(BLOCKS**2), BLOCKS**2))
    # Cells that are missing where none, the first, the first two, ... of the blocks are.
    missing = np.concatenate([[0], sizes_B[order_B].cumsum()])
    missing = missing[missing < len(rows_N)]
    emptied = order_B[: np.abs(missing - share * len(rows_N)).argmin()]
    gone_N = np.isin(row_N * BLOCKS + column_N, emptied)
    mask_HW[rows_N[gone_N], columns_N[gone_N]] = False


def _block(places_N: np.ndarray) -> np.ndarray:
    """Which block along one side of the box each cell lies in."""
    first, last = places_N.min(), places_N.max()
    return (places_N - first) * BLOCKS // (last - first + 1)
