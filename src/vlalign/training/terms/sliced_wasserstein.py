"""The sliced Wasserstein distance."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from vlalign.params.base import Count
from vlalign.params.choices import TermParams
from vlalign.training.term import Step
from vlalign.training.terms._distributions import DistributionParams, DistributionTerm

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.objectives.distributed import Group

CITATION = """@article{slicedwasserstein,
  title = {Sliced and {R}adon {W}asserstein Barycenters of Measures},
  author = {Bonneel, Nicolas and Rabin, Julien and Peyré, Gabriel and Pfister, Hanspeter},
  journal = {Journal of Mathematical Imaging and Vision}, volume = {51}, pages = {22--45}, year = {2015}
}"""


class SlicedWassersteinParams(DistributionParams):
    """The squared sliced 2-Wasserstein distance between both modalities' embeddings."""

    projections: Annotated[Count, Field(le=65_536)] = Field(
        default=128, description="Directions that embeddings are projected on, new ones in every step"
    )


class SlicedWasserstein(DistributionTerm[SlicedWassersteinParams]):
    """SW₂² between the distributions of both modalities' embeddings."""

    Params = SlicedWassersteinParams
    rank = 3
    labels: ClassVar[Mapping[str, str]] = {"sliced_wasserstein": "Sliced Wasserstein distance"}
    citation = CITATION

    @classmethod
    def describe(cls, params: TermParams) -> dict[str, float]:
        """See Term."""
        return {"the squared sliced Wasserstein distance": params.weight}

    def divergence(self, images_ND: "Tensor", texts_MD: "Tensor", group: "Group", step: Step) -> "Tensor":
        """See `sliced_wasserstein`."""
        from vlalign.objectives.wasserstein import sliced_wasserstein

        random = step.random("directions")
        return sliced_wasserstein(
            images_ND, texts_MD, projections=self.params.projections, generator=random, group=group
        )
