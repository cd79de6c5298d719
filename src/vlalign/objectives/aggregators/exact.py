"""All subsets, enumerated."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import Aggregator, PowersetScores, SubsetAggregator

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_REGIONS = 16


@dataclass(frozen=True, eq=False)
class Exact(SubsetAggregator):
    """Enumerates the 2^R subsets, R at most 16."""

    rank: ClassVar[int] = 0
    approximates: ClassVar[dict[str, tuple[str, ...]]] = {}

    subsets_SR: "Tensor | None" = None

    def draw(self, regions: int, *, like: "Tensor", generator: "torch.Generator | None") -> Aggregator:
        """All of them; raises ValueError for too many regions."""
        from vlalign.objectives.subsets import all_subsets

        if regions > MAX_REGIONS:
            raise ValueError(
                f"regions_IRD has {regions} regions: 'exact' enumerates 2^R subsets, R at most {MAX_REGIONS}; use "
                "'nla' or 'sampled'"
            )
        return replace(self, subsets_SR=all_subsets(regions, device=like.device).to(like.dtype))

    def aggregate(self, x: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> PowersetScores:
        """Means and maxima over these subsets."""
        from vlalign.objectives.subsets import best_subset, mean_of_subsets, phrase_mean

        assert self.subsets_SR is not None
        best = best_subset(x, region_mask, empty_subset=self.empty_subset)
        return PowersetScores(mean_of_subsets(x, phrase_mask, self.subsets_SR), phrase_mean(best, phrase_mask))

    def columns(self, regions: int) -> int:
        """A subset of regions takes as much as a region."""
        return regions if self.subsets_SR is None else max(regions, len(self.subsets_SR))
