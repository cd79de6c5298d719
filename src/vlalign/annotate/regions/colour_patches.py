"""Segments without weights: patches of even colour, merged pair by pair where the least separates them.

Felzenszwalb and Huttenlocher's patches follow the outlines of things but are many; colour alone would merge them across
outlines and cut smooth skies. So a merge costs Ward's increase of the variance of colour, times the contrast along the
border that it removes.

Suffixes: H W pixels of the reduced picture, C channels, S patches, N some of them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.spatial.distance import cdist

from vlalign.annotate.regions.masks import grid_shape
from vlalign.annotate.regions.segments import select

if TYPE_CHECKING:
    from vlalign.annotate.regions.segmenters.superpixels import SuperpixelSegments

# Longest side of the reduced picture: larger ones cost time and show texture rather than things.
RESOLUTION = 192
# Of the patches: how much contrast makes an outline, and their least share of the picture, so that 1,000 are the most.
SCALE = 30
SPECK = 0.001
# Two that merge at a lower cost, per pixel of the picture, are one thing: the halo that JPEG lays around drawings costs
# up to 1, the last fifteen merges of photographs cost 3 and more, unless they are nearly black.
EVEN = 1.0


class Superpixels:
    """Divides pictures into at most `params.regions` segments that do not overlap."""

    def __init__(self, params: "SuperpixelSegments", *, side: int) -> None:
        self.params = params
        self.side = side

    def __call__(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """Bool masks R H W of each picture, the largest first."""
        return [self._masks(image) for image in images]

    def _masks(self, image: Image.Image) -> np.ndarray:
        height, width = grid_shape(image.height, image.width, side=self.side)
        labels = Image.fromarray(segment(image, self.params).astype(np.int32))
        labels_HW = np.asarray(labels.resize((width, height), Image.Resampling.NEAREST))
        masks_RHW = labels_HW == np.arange(self.params.regions)[:, None, None]
        return select(masks_RHW, masks_RHW.mean((1, 2)), self.params)


def segment(image: Image.Image, params: "SuperpixelSegments") -> np.ndarray:
    """Labels H W of at most `params.regions` segments of a picture, which is reduced first."""
    from skimage.color import rgb2lab
    from skimage.segmentation import felzenszwalb

    height, width = grid_shape(image.height, image.width, side=RESOLUTION)
    picture_HWC = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BOX))
    least = max(params.min_area, SPECK) * height * width
    labels_HW = felzenszwalb(picture_HWC, scale=SCALE, min_size=round(least))
    patches = _Patches(labels_HW, rgb2lab(picture_HWC))
    patches.merge(params.regions, least_cost=EVEN * height * width)
    return patches.labels()[labels_HW]


class _Patches:
    """Patches and their borders; one that was merged into another has no borders any more."""

    def __init__(self, labels_HW: np.ndarray, colours_HWC: np.ndarray) -> None:
        count = int(labels_HW.max()) + 1
        self.owner_S = np.arange(count)
        self.size_S = np.bincount(labels_HW.ravel()).astype(float)
        sums = [np.bincount(labels_HW.ravel(), channel) for channel in colours_HWC.reshape(-1, 3).T]
        self.colour_SC = np.stack(sums, 1) / self.size_S[:, None]
        self.border_SS, self.contrast_SS = _borders(labels_HW, colours_HWC, count)
        self.nearest_S = np.zeros(count, int)
        self.cost_S = np.zeros(count)
        self._find_nearest(self.owner_S)

    def labels(self) -> np.ndarray:
        """Which of those that are left, counted from 0, each patch now belongs to."""
        return np.unique(self.owner_S, return_inverse=True)[1]

    def merge(self, most: int, *, least_cost: float) -> None:
        """Merge until at most so many are left, and no two that would cost less."""
        for left in range(len(self.owner_S), 1, -1):
            patch = int(self.cost_S.argmin())
            if left <= most and self.cost_S[patch] >= least_cost:
                break
            self._merge(patch, int(self.nearest_S[patch]))

    def _merge(self, patch: int, gone: int) -> None:
        pair = [patch, gone]
        self.colour_SC[patch] = np.average(self.colour_SC[pair], axis=0, weights=self.size_S[pair])
        self.size_S[patch] += self.size_S[gone]
        for table_SS in (self.border_SS, self.contrast_SS):
            table_SS[patch] += table_SS[gone]
            table_SS[gone] = 0
            table_SS[patch, pair] = 0
            table_SS[:, pair] = table_SS[pair].T
        self.owner_S[self.owner_S == gone] = patch
        self._find_nearest(np.append(np.flatnonzero(self.border_SS[patch]), pair))

    def _find_nearest(self, some_N: np.ndarray) -> None:
        """With which neighbour each of these merges at the least cost."""
        size_N1 = self.size_S[some_N, None]
        cost_NS = cdist(self.colour_SC[some_N], self.colour_SC, "sqeuclidean")
        cost_NS *= self.size_S * size_N1 / (self.size_S + size_N1)
        border_NS = self.border_SS[some_N]
        cost_NS *= self.contrast_SS[some_N] / np.maximum(border_NS, 1)
        cost_NS[border_NS == 0] = np.inf
        self.nearest_S[some_N] = cost_NS.argmin(1)
        self.cost_S[some_N] = cost_NS.min(1)


def _borders(labels_HW: np.ndarray, colours_HWC: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Length of the border between each two patches, S S, and the contrast summed along it."""
    border, contrast = np.zeros(count * count), np.zeros(count * count)
    for before, after in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        apart = labels_HW[before] != labels_HW[after]
        pairs = labels_HW[before][apart] * count + labels_HW[after][apart]
        steps = np.linalg.norm(colours_HWC[before][apart] - colours_HWC[after][apart], axis=-1)
        border += np.bincount(pairs, minlength=count * count)
        contrast += np.bincount(pairs, steps, minlength=count * count)
    border_SS, contrast_SS = border.reshape(count, count), contrast.reshape(count, count)
    return border_SS + border_SS.T, contrast_SS + contrast_SS.T
