"""The total loss of a run: InfoNCE + λ · powerset + weight · D_CS."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import ClipLoss
from torch import Tensor, nn

from vlalign.models import ImageFeatures, TextFeatures
from vlalign.objectives import centre, cs_divergence, pool_phrases, pool_regions, powerset_loss, powerset_scores
from vlalign.params import ObjectiveParams, PowersetParams
from vlalign.training.batches import Batch


class Objective(nn.Module):
    """Returns the total and its terms; a term whose weight is 0 is not computed."""

    def __init__(self, params: ObjectiveParams) -> None:
        super().__init__()
        self.params = params
        self.contrastive = ClipLoss()
        if params.powerset.weight and params.powerset.loss == "cross-entropy":
            self.score_scale = nn.Parameter(torch.tensor(math.log(params.powerset.temperature)))

    def forward(
        self, image: ImageFeatures, text: TextFeatures, logit_scale: Tensor, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and its terms by name, all scalars. `generator` draws the random subsets."""
        params = self.params
        terms = {"contrastive": self.contrastive(image.embedding_ID, text.embedding_CD, logit_scale.exp())}
        if params.powerset.weight:
            terms["powerset"] = self._powerset(image, text, batch, generator)
        if params.cs.weight:
            terms["cs"] = cs_divergence(
                image.embedding_ID, text.embedding_CD, sigma=params.cs.sigma, unbiased=params.cs.unbiased
            )
        weights = {"contrastive": params.contrastive, "powerset": params.powerset.weight, "cs": params.cs.weight}
        return sum((weights[name] * term for name, term in terms.items()), torch.zeros(())), terms

    def _powerset(self, image: ImageFeatures, text: TextFeatures, batch: Batch, generator: torch.Generator) -> Tensor:
        params = self.params.powerset
        regions, phrases = align(image, text, batch, params)
        rule: dict[str, Any] = {
            "region_mask": batch.region_mask,
            "phrase_mask": batch.phrase_mask,
            "aggregator": params.aggregator,
            "tau": params.tau,
            "zeta": params.zeta,
            "cost": params.cost,
            "samples": params.samples,
            "generator": generator,
        }
        if params.loss == "triplet":
            return powerset_loss(
                regions, phrases, margin=params.margin, negatives=params.negatives, per_region=params.per_region, **rule
            )
        scores = powerset_scores(regions, phrases, **rule).total
        if params.per_region and batch.region_mask is not None:
            scores = scores / batch.region_mask.sum(1).clamp_min(1)[:, None]
        logits, target = scores * self.score_scale.exp(), torch.arange(len(scores), device=scores.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def align(image: ImageFeatures, text: TextFeatures, batch: Batch, params: PowersetParams) -> tuple[Tensor, Tensor]:
    """Regions I R D and phrases C P D of a batch."""
    assert batch.coverage is not None
    assert batch.words is not None
    assert batch.members is not None
    regions = pool_regions(image.patches_IVD.float(), batch.coverage)
    phrases = pool_phrases(text.tokens_CLD.float(), batch.words, batch.members, normalise=params.phrases.normalise)
    if params.centre:
        regions, phrases = centre(regions, batch.region_mask), centre(phrases, batch.phrase_mask)
    return regions, phrases


@torch.no_grad()
def positive_share(image: ImageFeatures, text: TextFeatures, batch: Batch, params: PowersetParams) -> float:
    """Percent of the similarities between an image's own regions and phrases that are above the cost.

    Near 100 the best subset is always all regions, and the powerset does nothing.
    """
    assert batch.phrase_mask is not None
    assert batch.region_mask is not None
    regions, phrases = align(image, text, batch, params)
    real = batch.phrase_mask[:, :, None] & batch.region_mask[:, None]
    return 100 * ((phrases @ regions.mT)[real] > params.cost).float().mean().item()
