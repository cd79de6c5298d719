"""What terms share that compare the distributions of both modalities' embeddings: which embeddings belong to them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field

from vlalign.params.base import Positive, Strict
from vlalign.params.choices import Needs, TermParams
from vlalign.training.term import Pairs, Step, Term

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.objectives.distributed import Group


class UnpairedChoice(Strict):
    """How many images and captions without a partner join the distributions of every batch."""

    images: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    captions: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class DistributionParams(TermParams):
    """Params of every such term. Terms of one run must choose the same embeddings."""

    captions: Literal["one", "all"] = Field(
        default="one", description="all: the other captions of a batch's images join the distribution of texts"
    )
    unpaired: UnpairedChoice = UnpairedChoice()

    @property
    def extras(self) -> bool:
        """Whether more than pairs enters."""
        return self.captions == "all" or self.unpaired != UnpairedChoice()

    def needs(self) -> Needs:
        """Of embeddings alone: other captions and what has no partner."""
        if not self.weight:
            return Needs()
        return Needs(
            takes_extras=True,
            other_captions=self.captions == "all",
            unpaired_images=self.unpaired.images,
            unpaired_captions=self.unpaired.captions,
        )


class KernelParams(DistributionParams):
    """Params of a term that compares means of Gaussian kernels."""

    sigma: Positive | Literal["median"] | Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        default="median", description="Kernel width: fixed, the median heuristic, or several kernels"
    )
    unbiased: bool = Field(default=True, description="Leave the diagonal out of the within-modality means")

    def kernel(self) -> dict[str, Any]:
        """What `cs_divergence` and `mmd` take of them."""
        return {"sigma": self.sigma, "unbiased": self.unbiased}


OwnParams = TypeVar("OwnParams", bound=DistributionParams)


class DistributionTerm(Term[OwnParams]):
    """A divergence between the distributions of both modalities' embeddings."""

    def losses(self, pairs: Pairs, features: "Mapping[str, Tensor]", step: Step) -> "dict[str, Tensor]":
        """The divergence of all embeddings that the params choose."""
        from vlalign.objectives.distributed import plain

        if not self.params.weight:
            return {}
        # More than pairs: only their process knows how many.
        group = plain(self.group) if self.params.extras else self.group
        return {self.name.replace("-", "_"): self.divergence(pairs.images(), pairs.texts(), group, step)}

    def divergence(self, images_ND: "Tensor", texts_MD: "Tensor", group: "Group", step: Step) -> "Tensor":
        """A scalar, of the embeddings of all processes of the group."""
        raise NotImplementedError
