"""Masks on a coarse grid of cells over their picture, and few bytes for each.

A mask needs little more detail than the patches that it is pooled to: `grid_shape` says on how many cells it is kept.
`encode_mask` writes where its outline turns, and leaves the rest to a compressor, which takes about a third off the
masks of an image together, more than off each by itself.
"""

import numpy as np
from PIL import Image

from vlalign.errors import VlalignError

# A byte that says: so many cells and not yet the corner.
ON = 255


def grid_shape(height: int, width: int, *, side: int) -> tuple[int, int]:
    """Height and width, in cells, of the grid over a picture: its pixels, but at most `side` along the longest side."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def reduce_mask(mask_HW: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The bool mask on `grid` (height, width): the cells that at least half belong to it."""
    if mask_HW.shape == grid:
        return mask_HW
    picture = Image.fromarray(mask_HW.astype(np.uint8) * 255)
    return np.asarray(picture.resize(grid[::-1], Image.Resampling.BOX)) >= 128


def encode_mask(mask_HW: np.ndarray) -> bytes:
    """The corners of a bool mask's outline, as the number of cells from each to the next, row by row.

    A cell is a corner when it and its neighbours to the left, above and between them are an odd number in the mask. A
    number from 255 up is written as so many bytes of 255 and the rest, so that masks of any size are exact.
    """
    # Of truth values, a difference says whether they differ.
    corners_HW = np.diff(np.diff(mask_HW, axis=0, prepend=False), axis=1, prepend=False)
    corners = np.flatnonzero(corners_HW)
    whole, rest = np.divmod(np.diff(corners, prepend=0), ON)
    steps = np.full(len(corners) + whole.sum(), ON, np.uint8)
    steps[np.cumsum(whole + 1) - 1] = rest
    return steps.tobytes()


def decode_mask(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """The bool mask H W that `encode_mask` was given; raises VlalignError when `data` cannot be one of this shape."""
    steps = np.frombuffer(data, np.uint8)
    if data and (steps[-1] == ON or steps.sum(dtype=np.int64) >= shape[0] * shape[1]):
        raise VlalignError(f"a mask of {shape[0]} x {shape[1]} cells is damaged; delete its file and run again")
    corners_HW = np.zeros(shape, bool)
    corners_HW.flat[np.cumsum(steps, dtype=np.int64)[steps < ON]] = True
    return np.logical_xor.accumulate(np.logical_xor.accumulate(corners_HW, axis=1), axis=0)
