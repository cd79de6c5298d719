"""The Cauchy-Schwarz divergence (CS-Aligner)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from vlalign.params.base import NonNegative, Positive, Strict
from vlalign.params.choices import Needs, TermParams
from vlalign.training.term import Pairs, Step, Term

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.models import ImageFeatures, TextFeatures
    from vlalign.training.data.batches import Batch

CITATION = """@article{csaligner,
  title = {Distributional Vision-Language Alignment by Cauchy-Schwarz Divergence},
  author = {Yin, Wenzhe and Xiao, Zehao and Zhou, Pan and Yu, Shujian and Shen, Jiayi and Sonke, Jan-Jakob and
            Gavves, Efstratios},
  journal = {arXiv:2502.17028}, year = {2025}
}"""


class UnpairedChoice(Strict):
    """How many images and captions without a partner join the distributions of every batch."""

    images: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    captions: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class CSParams(TermParams):
    """The Cauchy-Schwarz divergence between both modalities' embeddings (CS-Aligner)."""

    weight: NonNegative = Field(default=0.0, description="Weight of D_CS in the total loss; 0 switches the term off")
    sigma: Positive | Literal["median"] | Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        default="median", description="Kernel width: fixed, the median heuristic, or several kernels"
    )
    unbiased: bool = Field(default=True, description="Leave the diagonal out of the within-modality means")
    captions: Literal["one", "all"] = Field(
        default="one", description="all: the other captions of a batch's images join the distribution of texts"
    )
    unpaired: UnpairedChoice = UnpairedChoice()
    token_weight: NonNegative = Field(
        default=0.0, description="Weight of D_CS between each pair's patch tokens and word tokens"
    )

    @property
    def is_used(self) -> bool:
        """Of embeddings, of tokens, or both."""
        return self.weight > 0 or self.token_weight > 0

    def needs(self) -> Needs:
        """Of embeddings alone: other captions and what has no partner."""
        tokens = self.token_weight > 0
        if not self.weight:
            return Needs(tokens=tokens)
        return Needs(
            tokens=tokens,
            other_captions=self.captions == "all",
            unpaired_images=self.unpaired.images,
            unpaired_captions=self.unpaired.captions,
        )

    def relevant(self) -> dict[str, Any]:
        """See TermParams."""
        unused = () if self.weight else ("captions", "unpaired")
        return {key: value for key, value in super().relevant().items() if key not in unused}


class CauchySchwarz(Term[CSParams]):
    """D_CS between the distributions of both modalities' embeddings, and of each pair's tokens."""

    name = "cs"
    Params = CSParams
    rank = 2
    labels: ClassVar[Mapping[str, str]] = {"cs": "Cauchy-Schwarz term", "cs_tokens": "Cauchy-Schwarz term of tokens"}
    citation = CITATION

    @classmethod
    def weights(cls, params: TermParams) -> dict[str, float]:
        """See Term."""
        assert isinstance(params, CSParams)
        return {"cs": params.weight, "cs_tokens": params.token_weight}

    @classmethod
    def describe(cls, params: TermParams) -> dict[str, float]:
        """See Term."""
        assert isinstance(params, CSParams)
        named = ("the Cauchy-Schwarz divergence of CS-Aligner", "its divergence of tokens")
        return dict(zip(named, cls.weights(params).values(), strict=True))

    def features(self, image: "ImageFeatures", text: "TextFeatures", batch: "Batch") -> "dict[str, Tensor]":
        """Tokens, at unit length, so that one kernel width suits both modalities."""
        import torch.nn.functional as F

        from vlalign.objectives.numerics import precise

        if not self.params.token_weight:
            return {}
        patches, tokens = (F.normalize(precise(x), dim=-1) for x in (image.patches_IVD, text.tokens_CLD))
        return {"patches_IVD": patches, "tokens_CLD": tokens, "token_mask": text.mask_CL}

    def losses(self, pairs: Pairs, features: "Mapping[str, Tensor]", step: Step) -> "dict[str, Tensor]":
        """See `cs_divergence` and `token_cs_divergence`."""
        from vlalign.objectives.distributed import plain
        from vlalign.objectives.divergence import cs_divergence, token_cs_divergence

        found = {}
        kernel: dict[str, Any] = {"sigma": self.params.sigma, "unbiased": self.params.unbiased}
        if self.params.weight:
            # More than pairs: only their process knows how many.
            more = (needs := self.params.needs()).other_captions or needs.unpaired_images or needs.unpaired_captions
            group = plain(self.group) if more else self.group
            found["cs"] = cs_divergence(pairs.images(), pairs.texts(), group=group, **kernel)
        if self.params.token_weight:
            tokens, mask = (features["patches_IVD"], features["tokens_CLD"]), features["token_mask"]
            found["cs_tokens"] = token_cs_divergence(*tokens, y_mask=mask, group=plain(self.group), **kernel)
        return found
