"""The maximum mean discrepancy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from vlalign.params.choices import TermParams
from vlalign.training.term import Step
from vlalign.training.terms._distributions import DistributionTerm, KernelParams

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.objectives.distributed import Group

CITATION = """@article{mmd,
  title = {A Kernel Two-Sample Test},
  author = {Gretton, Arthur and Borgwardt, Karsten M. and Rasch, Malte J. and Schölkopf, Bernhard and
            Smola, Alexander},
  journal = {Journal of Machine Learning Research}, volume = {13}, pages = {723--773}, year = {2012}
}"""


class MMDParams(KernelParams):
    """The squared maximum mean discrepancy between both modalities' embeddings."""


class MaximumMeanDiscrepancy(DistributionTerm[MMDParams]):
    """MMD² between the distributions of both modalities' embeddings."""

    Params = MMDParams
    rank = 3
    labels: ClassVar[Mapping[str, str]] = {"mmd": "Maximum mean discrepancy"}
    citation = CITATION

    @classmethod
    def describe(cls, params: TermParams) -> dict[str, float]:
        """See Term."""
        return {"the maximum mean discrepancy": params.weight}

    def divergence(self, images_ND: "Tensor", texts_MD: "Tensor", group: "Group", step: Step) -> "Tensor":
        """See `mmd`."""
        from vlalign.objectives.divergence import mmd

        return mmd(images_ND, texts_MD, group=group, **self.params.kernel())
