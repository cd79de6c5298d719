"""The non-linear aggregators with the ζ that fits the batch."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import Aggregator, NonLinearAggregator, PowersetScores, setting

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Calibrated(NonLinearAggregator):
    """T1, and T2 with the ζ at which the mean T2 of the batch's pairs meets their sampled R2T, or comes closest."""

    rank: ClassVar[int] = 3
    is_fitted: ClassVar[bool] = True
    approximates: ClassVar[dict[str, tuple[str, ...]]] = {"r2t": ("tau",)}

    samples: int = setting(16, "Subsets of `sampled` and `calibrated`", ge=2, le=65_536, multiple_of=2)
    subsets_SR: "Tensor | None" = None
    found_zeta: "Tensor | None" = None

    @property
    def is_random(self) -> bool:
        """See Aggregator."""
        return True

    def draw(self, regions: int, *, like: "Tensor", generator: "torch.Generator | None") -> Aggregator:
        """Random ones, which ζ is fitted to."""
        from vlalign.objectives.subsets import sample_subsets

        return replace(self, subsets_SR=sample_subsets(regions, self.samples, like=like, generator=generator))

    def fit(self, s: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> Aggregator:
        """With the ζ at which their mean T2 meets their mean R2T over the subsets."""
        from vlalign.objectives.nonlinear import calibrated_zeta

        assert self.subsets_SR is not None
        zeta = calibrated_zeta(s, region_mask, phrase_mask, self.subsets_SR, tau=self.tau, cost=self.price)
        return replace(self, found_zeta=zeta)

    def aggregate(self, x: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> PowersetScores:
        """T2 and T1."""
        from vlalign.objectives.nonlinear import nla

        assert self.found_zeta is not None
        return nla(self, x, region_mask, phrase_mask, zeta=self.found_zeta)
