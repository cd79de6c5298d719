"""All subsets, enumerated."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import Aggregator, PowersetScores, SubsetAggregator

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vlalign.objectives.powerset import Problem

MAX_REGIONS = 16


@dataclass(frozen=True, eq=False)
class Exact(SubsetAggregator):
    """Enumerates the 2^R subsets, R at most 16."""

    approximates: ClassVar[dict[str, tuple[str, ...]]] = {}

    subsets_SR: "Tensor | None" = None

    def prepare(self, problem: "Problem", generator: "torch.Generator | None") -> Aggregator:
        """With the subsets; raises ValueError for more regions."""
        from vlalign.objectives.subsets import all_subsets

        regions = problem.regions_IRD
        if regions.shape[1] > MAX_REGIONS:
            raise ValueError(
                f"regions_IRD has shape {tuple(regions.shape)}: 'exact' enumerates 2^R subsets, R at most "
                f"{MAX_REGIONS}; use 'nla' or 'sampled'"
            )
        subsets = all_subsets(regions.shape[1], device=regions.device).to(regions.dtype)
        return dataclasses.replace(super().prepare(problem, generator), subsets_SR=subsets)

    def aggregate(self, x: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> PowersetScores:
        """Means and maxima over these subsets."""
        from vlalign.objectives.subsets import best_subset, mean_of_subsets, phrase_mean

        assert self.subsets_SR is not None
        best = best_subset(x, region_mask, empty_subset=self.empty_subset)
        return PowersetScores(mean_of_subsets(x, phrase_mask, self.subsets_SR), phrase_mean(best, phrase_mask))

    def columns(self, regions: int) -> int:
        """A subset of regions takes as much as a region."""
        return regions if self.subsets_SR is None else max(regions, len(self.subsets_SR))
