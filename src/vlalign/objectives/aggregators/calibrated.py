"""The non-linear aggregators with the ζ that fits the batch."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import Aggregator, NonLinearAggregator, PowersetScores, setting

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vlalign.objectives.powerset import Problem

# How many pairs that belong together, and as many that do not, ζ is found on.
PAIRS = 256


@dataclass(frozen=True, eq=False)
class Calibrated(NonLinearAggregator):
    """T1, and T2 with the ζ at which the mean T2 of the batch's pairs meets their sampled R2T, or comes closest."""

    is_random: ClassVar[bool] = True
    approximates: ClassVar[dict[str, tuple[str, ...]]] = {"r2t": ("tau",)}

    samples: int = setting(16, "Subsets of `sampled` and `calibrated`", ge=2, le=65_536, multiple_of=2)
    found_zeta: "Tensor | None" = None

    def prepare(self, problem: "Problem", generator: "torch.Generator | None") -> Aggregator:
        """With the ζ of this batch, from pairs that belong together (where I = C) and as many that do not."""
        import torch

        from vlalign.objectives.nonlinear import calibrated_zeta
        from vlalign.objectives.subsets import sample_subsets

        prepared = super().prepare(problem, generator)
        regions, captions = problem.regions_IRD, len(problem.phrases_CPD)
        subsets = sample_subsets(regions.shape[1], self.samples, generator=generator, device=regions.device)
        count = min(len(regions), PAIRS) if captions else 0
        image = torch.arange(count, device=regions.device)
        pairs = [(image, (image + shift) % max(1, captions)) for shift in (0, 1)]
        i, c = (torch.cat(part) for part in zip(*pairs, strict=True))
        with torch.no_grad():
            zeta = calibrated_zeta(
                problem.similarity(i, c),
                problem.region_mask[i],
                problem.phrase_mask[c],
                subsets.to(regions.dtype),
                tau=self.tau,
                cost=prepared.cost,
            )
        return dataclasses.replace(prepared, found_zeta=zeta)

    def aggregate(self, x: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> PowersetScores:
        """T2 and T1."""
        from vlalign.objectives.nonlinear import nla

        assert self.found_zeta is not None
        return nla(self, x, region_mask, phrase_mask, zeta=self.found_zeta)
