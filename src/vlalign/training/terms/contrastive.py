"""InfoNCE."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from vlalign.params.base import NonNegative
from vlalign.params.choices import TermParams
from vlalign.training.term import Pairs, Step, Term

if TYPE_CHECKING:
    from torch import Tensor


class ContrastiveParams(TermParams):
    """InfoNCE of all pairs, as CLIP has it."""

    weight: NonNegative = Field(default=1.0, description="Weight of InfoNCE")


class Contrastive(Term[ContrastiveParams]):
    """open_clip's InfoNCE on the pairs of all processes."""

    Params = ContrastiveParams
    rank = 0
    is_watched = True
    labels: ClassVar[Mapping[str, str]] = {"contrastive": "InfoNCE"}

    @classmethod
    def describe(cls, params: TermParams) -> dict[str, float]:
        """See Term."""
        return {"InfoNCE": params.weight}

    def losses(self, pairs: Pairs, features: "Mapping[str, Tensor]", step: Step) -> "dict[str, Tensor]":
        """Gathered here, since open_clip's own gathering needs equal shares."""
        from open_clip import ClipLoss

        from vlalign.objectives.distributed import gather

        images_ID, texts_CD = (gather(x, self.group) for x in (pairs.image_ID, pairs.text_CD))
        return {"contrastive": ClipLoss()(images_ID, texts_CD, pairs.logit_scale.exp())}
