"""The total loss of a run: InfoNCE + λ · powerset + weight · D_CS + token weight · D_CS of tokens."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

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
from vlalign.objectives.distributed import Group, gather
from vlalign.objectives.numerics import precise
from vlalign.params import ObjectiveParams, PhraseChoice, PowersetParams
from vlalign.training.batches import Batch


class Features(NamedTuple):
    """What the losses need of a batch: rows of every pair, embeddings without a partner, and learnt numbers; None where
    no term needs it.

    The rows of several parts of a batch may be joined, and the loss of the whole taken on them.
    """

    image_ID: Tensor
    text_CD: Tensor
    logit_scale: Tensor
    regions_IRD: Tensor | None = None
    region_mask: Tensor | None = None
    phrases_CPD: Tensor | None = None
    phrase_mask: Tensor | None = None
    patches_IVD: Tensor | None = None
    tokens_CLD: Tensor | None = None
    token_mask: Tensor | None = None
    more_images_ED: Tensor | None = None
    more_texts_ED: Tensor | None = None
    score_scale: Tensor | None = None
    cost: Tensor | None = None


class Objective(nn.Module):
    """The weighted sum of the terms; one whose weights are 0 is not computed.

    Args:
        group: processes that hold a part of every batch each; see `vlalign.objectives.distributed`.
    """

    def __init__(self, params: ObjectiveParams, *, group: Group = None) -> None:
        super().__init__()
        self.params, self.group = params, group
        self.contrastive = ClipLoss()
        if params.powerset.weight and params.powerset.loss == "cross-entropy":
            self.score_scale = nn.Parameter(torch.tensor(math.log(params.powerset.temperature)))
        if params.powerset.weight and params.powerset.cost == "learnt":
            self.cost = nn.Parameter(torch.zeros(()))

    def features(self, image: ImageFeatures, text: TextFeatures, logit_scale: Tensor, batch: Batch) -> Features:
        """What every pair contributes by itself: nothing in it depends on other pairs of the batch.

        image, text: features of `batch.all_images()` and `batch.all_tokens()`.
        """
        params, pairs = self.params, len(batch.tokens)
        images_ID, texts_CD = precise(image.embedding_ID), precise(text.embedding_CD)
        found = Features(images_ID[:pairs], texts_CD[:pairs], logit_scale)
        if batch.more_images is not None:
            found = found._replace(more_images_ED=images_ID[pairs:])
        if batch.more_tokens is not None:
            found = found._replace(more_texts_ED=texts_CD[pairs:])
        image = ImageFeatures(*(x[:pairs] for x in image))
        text = TextFeatures(*(x[:pairs] for x in text))
        if params.powerset.weight:
            regions, phrases = pool(image, text, batch, params.powerset.phrases)
            found = found._replace(
                regions_IRD=regions,
                region_mask=batch.region_mask,
                phrases_CPD=phrases,
                phrase_mask=batch.phrase_mask,
                score_scale=getattr(self, "score_scale", None),
                cost=getattr(self, "cost", None),
            )
        if params.cs.token_weight:
            # At unit length one kernel width suits both.
            patches, tokens = (F.normalize(precise(x), dim=-1) for x in (image.patches_IVD, text.tokens_CLD))
            found = found._replace(patches_IVD=patches, tokens_CLD=tokens, token_mask=text.mask_CL)
        return found

    def forward(
        self, features: Features, *, generator: torch.Generator, progress: float = 1.0
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
        compute: dict[str, Callable[[], Tensor]] = {
            "contrastive": lambda: self._contrastive(features),
            "powerset": lambda: self._powerset(features, generator, progress),
            "cs": lambda: cs_divergence(*distributions(features), **self._kernel()),
            "cs_tokens": lambda: self._token_divergence(features),
        }
        # InfoNCE is watched even where it does not train.
        terms = {name: term() for name, term in compute.items() if weights[name] or name == "contrastive"}
        return sum((weights[name] * term for name, term in terms.items()), torch.zeros(())), terms

    def _contrastive(self, features: Features) -> Tensor:
        """open_clip's InfoNCE on the pairs of all processes; gathered here, since theirs needs equal shares."""
        pairs = (gather(x, self.group) for x in (features.image_ID, features.text_CD))
        return self.contrastive(*pairs, features.logit_scale.exp())

    def _kernel(self) -> dict[str, Any]:
        return {"sigma": self.params.cs.sigma, "unbiased": self.params.cs.unbiased, "group": self.group}

    def _token_divergence(self, features: Features) -> Tensor:
        assert features.patches_IVD is not None
        assert features.tokens_CLD is not None
        return token_cs_divergence(
            features.patches_IVD, features.tokens_CLD, y_mask=features.token_mask, **self._kernel()
        )

    def _powerset(self, features: Features, generator: torch.Generator, progress: float) -> Tensor:
        params = self.params.powerset
        return powerset_loss(
            *aligned(features, params, group=self.group),
            loss=params.loss,
            margin=params.margin,
            negatives=params.negatives,
            scale=1.0 if features.score_scale is None else features.score_scale.exp(),
            per_region=params.per_region,
            direction=params.direction,
            group=self.group,
            **self._rule(features, generator, progress),
        )

    def _rule(self, features: Features, generator: torch.Generator, progress: float) -> dict[str, Any]:
        """How `powerset_scores` scores this batch."""
        params = self.params.powerset
        return {
            "region_mask": features.region_mask,
            "phrase_mask": features.phrase_mask,
            "aggregator": params.aggregator,
            "tau": scheduled_tau(params, progress),
            "zeta": params.zeta,
            "activation": params.activation,
            "cost": params.cost if features.cost is None else features.cost,
            "empty_subset": params.empty_subset,
            "samples": params.samples,
            "generator": generator,
        }

    @torch.no_grad()
    def score_statistics(self, features: Features, *, generator: torch.Generator, progress: float) -> dict[str, float]:
        """What tells whether the powerset does anything, by name, on this process's pairs.

        positive_share: percent of the similarities between an image's own regions and phrases that are above the cost;
        near 100 the best subset is always all regions. score_sd: standard deviation of S over the batch; near 0 the
        scores have collapsed. caption_share: percent of the variance of S that is an offset of whole captions, which
        tells images apart not at all. cost: b, where it is learnt or taken from the batch too.
        """
        params = self.params.powerset
        assert features.phrase_mask is not None
        assert features.region_mask is not None
        regions, phrases = aligned(features, params)
        masks = {"region_mask": features.region_mask, "phrase_mask": features.phrase_mask}
        rule = self._rule(features, generator, progress)
        cost = float(batch_cost(regions, phrases, **masks) if isinstance(rule["cost"], str) else rule["cost"])
        real = features.phrase_mask[:, :, None] & features.region_mask[:, None]
        above = (phrases @ regions.mT)[real] > cost
        scores_IC = powerset_scores(regions, phrases, **rule).of(params.direction)
        if params.per_region:
            scores_IC = scores_IC / features.region_mask.sum(1, keepdim=True).clamp_min(1)
        variance, offsets = scores_IC.var(correction=0), scores_IC.mean(0).var(correction=0)
        return {
            "positive_share": 100 * above.float().mean().item(),
            "score_sd": variance.sqrt().item(),
            "cost": cost,
            "caption_share": 100 * (offsets / variance.clamp_min(1e-30)).item(),
        }


def distributions(features: Features) -> tuple[Tensor, Tensor]:
    """All embeddings of either modality, with those that have no partner."""
    return (
        torch.cat([x for x in (features.image_ID, features.more_images_ED) if x is not None]),
        torch.cat([x for x in (features.text_CD, features.more_texts_ED) if x is not None]),
    )


def scheduled_tau(params: PowersetParams, progress: float) -> float:
    """τ after this share of the training: from `tau_start` to `tau`, by equal factors."""
    if params.tau_start is None:
        return params.tau
    return params.tau_start * (params.tau / params.tau_start) ** progress


def pool(image: ImageFeatures, text: TextFeatures, batch: Batch, choice: PhraseChoice) -> tuple[Tensor, Tensor]:
    """Regions I R D and phrases C P D of a batch, as they are pooled."""
    assert batch.coverage is not None
    assert batch.words is not None
    assert batch.members is not None
    regions = pool_regions(image.patches_IVD, batch.coverage)
    return regions, pool_phrases(text.tokens_CLD, batch.words, batch.members, normalise=choice.normalise)


def aligned(features: Features, params: PowersetParams, *, group: Group = None) -> tuple[Tensor, Tensor]:
    """Regions I R D and phrases C P D as they are scored: centred over the batch, or not."""
    assert features.regions_IRD is not None
    assert features.phrases_CPD is not None
    if not params.centre:
        return features.regions_IRD, features.phrases_CPD
    return (
        centre(features.regions_IRD, features.region_mask, group=group),
        centre(features.phrases_CPD, features.phrase_mask, group=group),
    )
