"""Random subsets in complementary pairs."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import Aggregator, setting
from vlalign.objectives.aggregators.exact import Exact

if TYPE_CHECKING:
    import torch

    from vlalign.objectives.powerset import Problem


@dataclass(frozen=True, eq=False)
class Sampled(Exact):
    """T2R exact, R2T over random subsets in complementary pairs: unbiased, and linear in R."""

    is_random: ClassVar[bool] = True
    approximates: ClassVar[dict[str, tuple[str, ...]]] = {"r2t": ("samples",)}

    samples: int = setting(16, "Subsets of `sampled` and `calibrated`", ge=2, le=65_536, multiple_of=2)

    def prepare(self, problem: "Problem", generator: "torch.Generator | None") -> Aggregator:
        """With the subsets that are drawn."""
        from vlalign.objectives.subsets import sample_subsets

        regions = problem.regions_IRD
        subsets = sample_subsets(regions.shape[1], self.samples, generator=generator, device=regions.device)
        prepared = Aggregator.prepare(self, problem, generator)
        return dataclasses.replace(prepared, subsets_SR=subsets.to(regions.dtype))
