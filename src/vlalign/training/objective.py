"""The total loss of a run: InfoNCE + λ · powerset + weight · D_CS + token weight · D_CS of tokens."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import ClipLoss
from torch import Tensor, nn

from vlalign.models import ImageFeatures, TextFeatures
from vlalign.objectives import (
    batch_cost,
    centre,
    cs_divergence,
    pool_phrases,
    pool_regions,
    powerset_loss,
    powerset_scores,
    token_cs_divergence,
)
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
        if params.powerset.weight and params.powerset.cost == "learnt":
            self.cost = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        image: ImageFeatures,
        text: TextFeatures,
        logit_scale: Tensor,
        batch: Batch,
        generator: torch.Generator,
        *,
        progress: float = 1.0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and its terms by name, all scalars.

        generator: draws the random subsets. progress: share of the training that is done, for the schedule of τ.
        """
        params = self.params
        weights = {
            "contrastive": params.contrastive,
            "powerset": params.powerset.weight,
            "cs": params.cs.weight,
            "cs_tokens": params.cs.token_weight,
        }
        kernel: dict[str, Any] = {"sigma": params.cs.sigma, "unbiased": params.cs.unbiased}
        compute: dict[str, Callable[[], Tensor]] = {
            "contrastive": lambda: self.contrastive(image.embedding_ID, text.embedding_CD, logit_scale.exp()),
            "powerset": lambda: self._powerset(image, text, batch, generator, progress),
            "cs": lambda: cs_divergence(image.embedding_ID, text.embedding_CD, **kernel),
            "cs_tokens": lambda: token_cs_divergence(*unit_tokens(image, text), y_mask=text.mask_CL, **kernel),
        }
        # InfoNCE is watched even where it does not train.
        terms = {name: term() for name, term in compute.items() if weights[name] or name == "contrastive"}
        return sum((weights[name] * term for name, term in terms.items()), torch.zeros(())), terms

    def _powerset(
        self, image: ImageFeatures, text: TextFeatures, batch: Batch, generator: torch.Generator, progress: float
    ) -> Tensor:
        params = self.params.powerset
        return powerset_loss(
            *align(image, text, batch, params),
            loss=params.loss,
            margin=params.margin,
            negatives=params.negatives,
            scale=self.score_scale.exp() if params.loss == "cross-entropy" else 1.0,
            per_region=params.per_region,
            direction=params.direction,
            **self._rule(batch, generator, progress),
        )

    def _rule(self, batch: Batch, generator: torch.Generator, progress: float) -> dict[str, Any]:
        """How `powerset_scores` scores this batch."""
        params = self.params.powerset
        return {
            "region_mask": batch.region_mask,
            "phrase_mask": batch.phrase_mask,
            "aggregator": params.aggregator,
            "tau": scheduled_tau(params, progress),
            "zeta": params.zeta,
            "activation": params.activation,
            "cost": self.cost if params.cost == "learnt" else params.cost,
            "empty_subset": params.empty_subset,
            "samples": params.samples,
            "generator": generator,
        }

    @torch.no_grad()
    def score_statistics(
        self, image: ImageFeatures, text: TextFeatures, batch: Batch, generator: torch.Generator, *, progress: float
    ) -> dict[str, float]:
        """What tells whether the powerset does anything, by name.

        positive_share: percent of the similarities between an image's own regions and phrases that are above the cost;
        near 100 the best subset is always all regions. score_sd: standard deviation of S over the batch; near 0 the
        scores have collapsed. caption_share: percent of the variance of S that is an offset of whole captions, which
        tells images apart not at all. cost: b, where it is learnt or taken from the batch too.
        """
        params = self.params.powerset
        assert batch.phrase_mask is not None
        assert batch.region_mask is not None
        regions, phrases = align(image, text, batch, params)
        cost = float(params.cost if not isinstance(params.cost, str) else self._cost(regions, phrases, batch))
        real = batch.phrase_mask[:, :, None] & batch.region_mask[:, None]
        above = (phrases @ regions.mT)[real] > cost
        scores_IC = powerset_scores(regions, phrases, **self._rule(batch, generator, progress)).of(params.direction)
        if params.per_region:
            scores_IC = scores_IC / batch.region_mask.sum(1, keepdim=True).clamp_min(1)
        variance, offsets = scores_IC.var(correction=0), scores_IC.mean(0).var(correction=0)
        return {
            "positive_share": 100 * above.float().mean().item(),
            "score_sd": variance.sqrt().item(),
            "cost": cost,
            "caption_share": 100 * (offsets / variance.clamp_min(1e-30)).item(),
        }

    def _cost(self, regions: Tensor, phrases: Tensor, batch: Batch) -> Tensor:
        if self.params.powerset.cost == "learnt":
            return self.cost
        return batch_cost(regions, phrases, region_mask=batch.region_mask, phrase_mask=batch.phrase_mask)


def scheduled_tau(params: PowersetParams, progress: float) -> float:
    """τ after this share of the training: from `tau_start` to `tau`, by equal factors."""
    if params.tau_start is None:
        return params.tau
    return params.tau_start * (params.tau / params.tau_start) ** progress


def unit_tokens(image: ImageFeatures, text: TextFeatures) -> tuple[Tensor, Tensor]:
    """Patch and word tokens of every pair at unit length, so that one kernel width suits both."""
    return F.normalize(image.patches_IVD.float(), dim=-1), F.normalize(text.tokens_CLD.float(), dim=-1)


def align(image: ImageFeatures, text: TextFeatures, batch: Batch, params: PowersetParams) -> tuple[Tensor, Tensor]:
    """Regions I R D and phrases C P D of a batch."""
    assert batch.coverage is not None
    assert batch.words is not None
    assert batch.members is not None
    regions = pool_regions(image.patches_IVD, batch.coverage)
    phrases = pool_phrases(text.tokens_CLD, batch.words, batch.members, normalise=params.phrases.normalise)
    if params.centre:
        regions, phrases = centre(regions, batch.region_mask), centre(phrases, batch.phrase_mask)
    return regions, phrases
