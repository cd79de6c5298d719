"""The Kullback-Leibler divergence of Gaussians."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from vlalign.params.choices import TermParams
from vlalign.training.term import Step
from vlalign.training.terms._distributions import DistributionParams, DistributionTerm

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.objectives.distributed import Group

CITATION = """@article{jeffreys,
  title = {An Invariant Form for the Prior Probability in Estimation Problems},
  author = {Jeffreys, Harold},
  journal = {Proceedings of the Royal Society of London A}, volume = {186}, pages = {453--461}, year = {1946}
}"""


class GaussianKLParams(DistributionParams):
    """The symmetrised Kullback-Leibler divergence of the Gaussians that fit both modalities' embeddings."""

    shrinkage: Annotated[float, Field(ge=0.001, le=1)] = Field(
        default=0.5, description="How far both covariances move to one multiple of the identity; at 1 only means count"
    )


class GaussianKL(DistributionTerm[GaussianKLParams]):
    """KL(p ‖ q) + KL(q ‖ p) of the Gaussians that fit both modalities' embeddings."""

    Params = GaussianKLParams
    rank = 3
    labels: ClassVar[Mapping[str, str]] = {"gaussian_kl": "KL of Gaussians"}
    citation = CITATION

    @classmethod
    def describe(cls, params: TermParams) -> dict[str, float]:
        """See Term."""
        return {"the symmetrised KL divergence of Gaussians": params.weight}

    def divergence(self, images_ND: "Tensor", texts_MD: "Tensor", group: "Group", step: Step) -> "Tensor":
        """See `gaussian_kl`."""
        from vlalign.objectives.gaussian import gaussian_kl

        return gaussian_kl(images_ND, texts_MD, shrinkage=self.params.shrinkage, group=group)
