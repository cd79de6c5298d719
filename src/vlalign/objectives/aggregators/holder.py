"""Weighted subsets whose size is paid for by a norm."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import PooledAggregator, setting

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Holder(PooledAggregator):
    """‖relu(x)‖_q: by Hölder's inequality the largest Σ_r w_r x_r over weights w ≥ 0 with ‖w‖_q' = 1, 1/q + 1/q' = 1.

    q = 1 adds all regions that are similar at all, which is R times PowerCLIP's T2R without its empty subset; the
    larger q is, the more of the gradient goes to the best one, which alone has it in `max`, the limit. Where no region
    is similar at all, the least bad one counts.

    norm_order: q, 1-64; where it is learnt, a tensor: a scalar or one for every phrase.
    """

    rank: ClassVar[int] = 6
    learnable: ClassVar[tuple[str, ...]] = ("norm_order",)

    norm_order: "float | Tensor" = setting(  # noqa: RUF009  # a field of dataclasses, as all settings are
        4.0, "q of `holder`: 1 adds all similar regions; the limit of large q is `max`", ge=1, le=64
    )

    def pool(self, x: "Tensor", region_mask: "Tensor") -> "Tensor":
        """The norm, or the largest x where none is above 0."""
        import torch

        from vlalign.objectives.subsets import NEVER

        largest = x.masked_fill(~region_mask, NEVER).amax(-1)
        is_similar = largest > 0
        # A constant of the gradient, since the norm does not depend on it: no power under- or overflows, and the sum of
        # the powers is 1 at least.
        scale = torch.where(is_similar, largest, 1).detach()
        shares = (x / scale[..., None]).relu().masked_fill(~is_similar[..., None], 1)
        order = self.norm_order
        powers = shares.pow(order[..., None] if isinstance(order, torch.Tensor) else order)
        return torch.where(is_similar, scale * powers.sum(-1).pow(1 / order), largest)
