"""Subsets whose size is paid for by a power of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import PooledAggregator, setting

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prefix(PooledAggregator):
    """max over the subsets A that are not empty of Σ_{r ∈ A} x_r / |A|^p, exact in O(R log R).

    The best subset of k regions is the k most similar ones, a prefix of the sorted similarities. p = 0 is R times
    PowerCLIP's T2R without its empty subset, p = 1 the single best region.
    """

    rank: ClassVar[int] = 7

    size_exponent: float = setting(0.75, "p of `prefix`: 0 adds all similar regions, 1 takes the best one", ge=0, le=1)

    def pool(self, x: "Tensor", region_mask: "Tensor") -> "Tensor":
        """That of the best prefix."""
        import torch

        from vlalign.objectives.subsets import NEVER

        falling = x.masked_fill(~region_mask, NEVER).sort(-1, descending=True).values
        sizes = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
        return (falling.cumsum(-1) / sizes.pow(self.size_exponent)).amax(-1)
