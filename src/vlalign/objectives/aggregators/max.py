"""A control without subsets."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import Aggregator, PowersetScores

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Max(Aggregator):
    """Control: the best phrase of every region, and R times the best region of every phrase: on the scale of a sum."""

    rank: ClassVar[int] = 5
    is_control: ClassVar[bool] = True

    def aggregate(self, x: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> PowersetScores:
        """The best of either side."""
        from vlalign.objectives.subsets import NEVER, phrase_mean

        best_phrase = x.masked_fill(~phrase_mask, NEVER).amax(-2)
        best_region = x.masked_fill(~region_mask, NEVER).amax(-1) * region_mask.sum(-1)
        r2t = (best_phrase * region_mask[..., 0, :]).sum(-1)
        return PowersetScores(r2t, phrase_mean(best_region, phrase_mask))
