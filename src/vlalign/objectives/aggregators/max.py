"""A control without subsets."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import PooledAggregator

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Max(PooledAggregator):
    """Control: the best phrase of every region, and R times the best region of every phrase: on the scale of a sum."""

    rank: ClassVar[int] = 5
    is_control: ClassVar[bool] = True
    approximates: ClassVar[dict[str, tuple[str, ...]]] = {"r2t": (), "t2r": ()}

    def pool(self, x: "Tensor", region_mask: "Tensor") -> "Tensor":
        """The best region's."""
        from vlalign.objectives.subsets import NEVER

        return x.masked_fill(~region_mask, NEVER).amax(-1)
