"""Random subsets in complementary pairs."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from vlalign.objectives.aggregator import Aggregator, setting
from vlalign.objectives.aggregators.exact import Exact

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sampled(Exact):
    """T2R exact, R2T over random subsets in complementary pairs: unbiased, and linear in R."""

    rank: ClassVar[int] = 2
    approximates: ClassVar[dict[str, tuple[str, ...]]] = {"r2t": ("samples",)}

    samples: int = setting(16, "Subsets of `sampled` and `calibrated`", ge=2, le=65_536, multiple_of=2)

    @property
    def is_random(self) -> bool:
        """See Aggregator."""
        return True

    def draw(self, regions: int, *, like: "Tensor", generator: "torch.Generator | None") -> Aggregator:
        """Random ones."""
        from vlalign.objectives.subsets import sample_subsets

        return replace(self, subsets_SR=sample_subsets(regions, self.samples, like=like, generator=generator))
