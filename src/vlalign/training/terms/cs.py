"""The Cauchy-Schwarz divergence (CS-Aligner)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from vlalign.params.base import NonNegative
from vlalign.params.choices import Needs, TermParams
from vlalign.training.term import Pairs, Step
from vlalign.training.terms._distributions import DistributionTerm, KernelParams

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.models import ImageFeatures, TextFeatures
    from vlalign.objectives.distributed import Group
    from vlalign.training.data.batches import Batch

CITATION = """@article{csaligner,
  title = {Distributional Vision-Language Alignment by Cauchy-Schwarz Divergence},
  author = {Yin, Wenzhe and Xiao, Zehao and Zhou, Pan and Yu, Shujian and Shen, Jiayi and Sonke, Jan-Jakob and
            Gavves, Efstratios},
  journal = {arXiv:2502.17028}, year = {2025}
}"""


class CSParams(KernelParams):
    """The Cauchy-Schwarz divergence between both modalities' embeddings (CS-Aligner)."""

    weight: NonNegative = Field(default=0.0, description="Weight of D_CS in the total loss; 0 switches the term off")
    token_weight: NonNegative = Field(
        default=0.0, description="Weight of D_CS between each pair's patch tokens and word tokens"
    )

    @property
    def is_used(self) -> bool:
        """Of embeddings, of tokens, or both."""
        return self.weight > 0 or self.token_weight > 0

    def needs(self) -> Needs:
        """See TermParams; of tokens too."""
        return replace(super().needs(), tokens=self.token_weight > 0)

    def relevant(self) -> dict[str, Any]:
        """See TermParams."""
        unused = () if self.weight else ("captions", "unpaired")
        return {key: value for key, value in super().relevant().items() if key not in unused}


class CauchySchwarz(DistributionTerm[CSParams]):
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
        from vlalign.objectives.divergence import token_cs_divergence

        found = super().losses(pairs, features, step)
        if self.params.token_weight:
            how = {"y_mask": features["token_mask"], "group": plain(self.group), **self.params.kernel()}
            found["cs_tokens"] = token_cs_divergence(features["patches_IVD"], features["tokens_CLD"], **how)
        return found

    def divergence(self, images_ND: "Tensor", texts_MD: "Tensor", group: "Group", step: Step) -> "Tensor":
        """See `cs_divergence`."""
        from vlalign.objectives.divergence import cs_divergence

        return cs_divergence(images_ND, texts_MD, group=group, **self.params.kernel())
