"""The paper's non-linear aggregators."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import NonLinearAggregator, PowersetScores, setting

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class NLA(NonLinearAggregator):
    """T1 and T2 of the paper (definitions 1 and 2), linear in R; ζ = 0 leaves tanh out of the gradient of T2."""

    rank: ClassVar[int] = 1
    approximates: ClassVar[dict[str, tuple[str, ...]]] = {"r2t": ("tau", "zeta"), "t2r": ("tau",)}

    zeta: float = setting(0.75, "Weight of log cosh (of tanh, in the gradient) in NLA-T2; 0: none", ge=0, le=1)

    def aggregate(self, x: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> PowersetScores:
        """T2 and T1."""
        from vlalign.objectives.nonlinear import nla

        return nla(self, x, region_mask, phrase_mask, zeta=self.zeta)

    def bound(
        self, direction: str, scores: "Tensor", s: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor"
    ) -> "Tensor":
        """τ·R·log 2 for T1; for T2 the farther of the two bounds of R2T."""
        import torch

        from vlalign.objectives.nonlinear import r2t_bounds, t1_bound

        if direction == "t2r":
            return torch.as_tensor(t1_bound(region_mask.sum(1), self.tau))
        low, high = r2t_bounds(s, region_mask, phrase_mask, tau=self.tau)
        return torch.maximum(scores - low, high - scores)
