"""Which of the segments that were found in a picture are kept.

Suffixes: R segments of one picture; H W cells of the grid that `grid_shape` lays over it.
"""

import numpy as np

from vlalign.params import SegmentFilters


def select(masks_RHW: np.ndarray, scores_R: np.ndarray, filters: SegmentFilters) -> np.ndarray:
    """The bool masks that the filters let pass, the largest first, then by score, then as they came.

    Larger ones come first because runs take the first few regions of an image, captions speak of what fills it, and
    the parts of a thing then follow the whole. Holes and specks are left alone.
    """
    areas_R = masks_RHW.mean((1, 2))
    fitting = np.flatnonzero((areas_R > 0) & (areas_R >= filters.min_area) & (areas_R <= filters.max_area))
    best_first = fitting[np.argsort(-scores_R[fitting], kind="stable")]
    kept = best_first[_distinct(masks_RHW[best_first], filters.max_overlap)]
    return masks_RHW[kept[np.argsort(-areas_R[kept], kind="stable")]][: filters.count]


def _distinct(masks_RHW: np.ndarray, max_overlap: float) -> list[int]:
    """Positions of the masks that overlap no earlier one of them by more."""
    cells_RHW = masks_RHW.astype(np.float32)
    shared_RR, area_R = np.tensordot(cells_RHW, cells_RHW, axes=([1, 2], [1, 2])), cells_RHW.sum((1, 2))
    overlap_RR = shared_RR / (area_R[:, None] + area_R - shared_RR)
    kept: list[int] = []
    for row, overlap_R in enumerate(overlap_RR):
        if (overlap_R[kept] <= max_overlap).all():
            kept.append(row)
    return kept
