"""A softened best region."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import PooledAggregator, setting

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class LogMean(PooledAggregator):
    """t·log mean_r exp(x_r / t): the single best region as t goes to 0, the mean of all as it grows."""

    rank: ClassVar[int] = 8

    softness: float = setting(
        0.1, "Of `logmean`: small ones take the best region, large ones the mean", ge=1e-4, le=1e4
    )

    def pool(self, x: "Tensor", region_mask: "Tensor") -> "Tensor":
        """Of the real regions."""
        from vlalign.objectives.subsets import NEVER

        real = region_mask.sum(-1).clamp_min(1).to(x.dtype)
        whole = (x / self.softness).masked_fill(~region_mask, NEVER).logsumexp(-1)
        return self.softness * (whole - real.log())
