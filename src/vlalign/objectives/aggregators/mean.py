"""A control without any choice."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import Aggregator, PowersetScores

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mean(Aggregator):
    """Control: the sum over all regions, so half of it for the average subset, with no choice at all."""

    rank: ClassVar[int] = 4
    is_control: ClassVar[bool] = True

    def aggregate(self, x: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> PowersetScores:
        """Half the sum, and the sum."""
        from vlalign.objectives.subsets import phrase_mean

        total = phrase_mean(x.sum(-1), phrase_mask)
        return PowersetScores(total / 2, total)
