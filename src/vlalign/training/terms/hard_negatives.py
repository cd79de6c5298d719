"""Hard negatives of the captions' own (NegCLIP)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from vlalign.params.choices import Needs, TermParams
from vlalign.training.term import Pairs, Step, Term

if TYPE_CHECKING:
    from torch import Tensor

CITATION = """@inproceedings{negclip,
  title = {When and Why Vision-Language Models Behave like Bags-of-Words, and What to Do About It?},
  author = {Yuksekgonul, Mert and Bianchi, Federico and Kalluri, Pratyusha and Jurafsky, Dan and Zou, James},
  booktitle = {International Conference on Learning Representations}, year = {2023}
}"""


class HardNegativeParams(TermParams):
    """Captions against twins of themselves, made from their parse (NegCLIP)."""

    kinds: Annotated[tuple[Literal["swap", "flip"], ...], Field(min_length=1)] = Field(
        default=("swap", "flip"),
        description="swap: two phrases or words of the caption have changed places; flip: a word is its opposite. One "
        "twin is drawn in every epoch, either kind as often",
    )
    against: Literal["batch", "own"] = Field(
        default="batch",
        description="batch: an image's caption against all captions of the batch and their twins, as NegCLIP; own: "
        "against its own twin alone",
    )

    def needs(self) -> Needs:
        """See TermParams."""
        return Needs(twins=self.kinds)


class HardNegatives(Term[HardNegativeParams]):
    """InfoNCE from images to captions with the captions' twins as further columns (NegCLIP)."""

    Params = HardNegativeParams
    rank = 2
    tag = "negclip"
    citation = CITATION
    labels: ClassVar[Mapping[str, str]] = {
        "hard_negatives": "Hard-negative term",
        "twin_share": "Captions with a twin (%)",
        "twin_accuracy": "Images that prefer their caption to its twin (%)",
    }

    @classmethod
    def describe(cls, params: TermParams) -> dict[str, float]:
        """See Term."""
        return {"InfoNCE with hard negatives (NegCLIP)": params.weight}

    def losses(self, pairs: Pairs, features: "Mapping[str, Tensor]", step: Step) -> "dict[str, Tensor]":
        """See `hard_negative_loss`."""
        from vlalign.objectives.hard_negatives import hard_negative_loss

        assert pairs.twins_CD is not None
        loss = hard_negative_loss(
            pairs.image_ID,
            pairs.text_CD,
            pairs.twins_CD,
            twin_mask=pairs.twin_mask,
            scale=pairs.logit_scale.exp(),
            against=self.params.against,
            group=self.group,
        )
        return {"hard_negatives": loss}

    def statistics(self, pairs: Pairs, features: "Mapping[str, Tensor]", step: Step) -> dict[str, float]:
        """twin_share: percent of the captions that have a twin. twin_accuracy: percent of these captions whose image is
        more similar to them than to their twin.
        """
        assert pairs.twins_CD is not None
        assert pairs.twin_mask is not None
        real = pairs.twin_mask
        right = (pairs.image_ID * (pairs.text_CD - pairs.twins_CD)).sum(1) > 0
        found = {"twin_share": 100 * real.float().mean().item()}
        if real.any():
            found["twin_accuracy"] = 100 * right[real].float().mean().item()
        return found
