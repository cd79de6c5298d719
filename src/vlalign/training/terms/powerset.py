"""The powerset loss (PowerCLIP)."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, create_model, model_validator

from vlalign.objectives.aggregator import Aggregator, aggregator_of, known_aggregators, settings
from vlalign.params.base import NonNegative, Positive, added
from vlalign.params.choices import Needs, PhraseChoice, RegionChoice, TermParams
from vlalign.training.term import Pairs, Step, Term

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.models import ImageFeatures, TextFeatures
    from vlalign.training.data.batches import Batch

CITATION = """@article{powerclip,
  title = {PowerCLIP: Powerset Alignment for Contrastive Pre-Training},
  author = {Kawamura, Masaki and Inoue, Nakamasa and Yanagi, Rintaro and Kataoka, Hirokatsu and Yokota, Rio},
  journal = {arXiv:2511.23170}, year = {2025}
}"""
# Which params of the loss mean nothing to which loss.
UNUSED = {"triplet": ("temperature",), "cross-entropy": ("margin", "negatives")}
# A q for every number of words up to this one, which is also that of longer phrases.
MOST_WORDS, HIGHEST_ORDER = 8, 64.0


def _settings_of_aggregators() -> dict[str, Any]:
    """A field for every setting of any aggregator; two that share one must mean the same by it."""
    found: dict[str, dataclasses.Field] = {}
    for kind in known_aggregators().values():
        for field in settings(kind):
            known = found.setdefault(field.name, field)
            if (known.default, dict(known.metadata)) != (field.default, dict(field.metadata)):
                raise TypeError(f"{kind.__name__}.{field.name} differs from that of another aggregator; rename it")
    typed: dict[str, Any] = {}
    for name, field in found.items():
        limits = dict(field.metadata)
        choices = limits.pop("choices", None)
        made = added if limits.pop("added", False) else Field
        typed[name] = Literal[choices] if choices else type(field.default), made(field.default, **limits)
    return typed


if TYPE_CHECKING:
    AggregatorParams = TermParams
else:
    AggregatorParams = create_model("AggregatorParams", __base__=TermParams, **_settings_of_aggregators())


class PowersetParams(AggregatorParams):
    """The powerset loss (PowerCLIP)."""

    weight: NonNegative = Field(default=0.0, description="λ of the total loss; 0 switches the term off")
    aggregator: Literal[tuple(known_aggregators())] = Field(  # type: ignore[valid-type]
        default="nla", description="mean and max are controls without subsets; max is the single best region"
    )
    direction: Literal["both", "r2t", "t2r"] = Field(default="both", description="S, or one of its parts alone")
    tau_start: Positive | None = Field(
        default=None, description="Temperature at the first step; it moves to tau geometrically. tau if left out"
    )
    cost: NonNegative | Literal["batch", "learnt"] = Field(
        default=0.0, description="b: what each chosen region costs; batch: the mean similarity of pairs; learnt: from 0"
    )
    learnt_order: Literal["none", "one", "words"] = added(
        "none",
        description="q of `holder`, learnt from norm_order on: one for all phrases, or one for every number of words",
    )
    loss: Literal["triplet", "cross-entropy"] = "triplet"
    margin: NonNegative = 0.2
    negatives: Literal["hardest", "semi-hard"] = "semi-hard"
    temperature: Positive = Field(default=15.0, description="Initial scale of S under cross-entropy; learnt")
    per_region: bool = Field(default=True, description="Divide S by the number of regions")
    centre: bool = Field(default=False, description="Centre regions and phrases over the batch")
    regions: RegionChoice = RegionChoice()
    phrases: PhraseChoice = PhraseChoice()

    @model_validator(mode="after")
    def _exact_is_small(self) -> "PowersetParams":
        if self.aggregator == "exact" and self.regions.count > 16:
            raise ValueError("aggregator: exact enumerates 2^R subsets; regions.count must be at most 16")
        return self

    @model_validator(mode="after")
    def _order_can_be_learnt(self) -> "PowersetParams":
        if self.learnt_order != "none" and self.settings().get("norm_order") == 1:
            raise ValueError("norm_order must be above 1 where learnt_order says that it is learnt")
        return self

    def plugins(self) -> dict[str, tuple[str, ...]]:
        """See TermParams."""
        return {"aggregators": (self.aggregator,)}

    def needs(self) -> Needs:
        """See TermParams."""
        return Needs(phrases=self.phrases, regions=self.regions)

    def relevant(self) -> dict[str, Any]:
        """Without the settings of other aggregators, and of the other loss."""
        unused = (set(_settings_of_aggregators()) - self.settings().keys()) | set(UNUSED[self.loss])
        unused |= {later for of, later in (("tau", "tau_start"), ("norm_order", "learnt_order")) if of in unused}
        return {key: value for key, value in super().relevant().items() if key not in unused}

    def settings(self) -> dict[str, Any]:
        """Those of the chosen aggregator."""
        return {field.name: getattr(self, field.name) for field in settings(known_aggregators()[self.aggregator])}

    def rule(
        self, *, cost: "float | Tensor | str | None" = None, progress: float = 1.0, **learnt: "Tensor"
    ) -> Aggregator:
        """The aggregator; cost, learnt: what is learnt, by the settings' names. τ goes from `tau_start` to `tau` by
        equal factors while training does.
        """
        found = self.settings() | learnt
        if self.tau_start is not None and "tau" in found:
            found["tau"] = self.tau_start * (found["tau"] / self.tau_start) ** progress
        return aggregator_of(self.aggregator, self.cost if cost is None else cost, **found)


def refuse_as_settings(own: Iterable[str]) -> None:
    """Raises TypeError where an aggregator has a setting by one of these names, which mean something else here."""
    for name in own:
        if name in _settings_of_aggregators():
            raise TypeError(f"objective.powerset has its own {name!r}: the setting of an aggregator needs another name")


refuse_as_settings(PowersetParams.__annotations__)


class Powerset(Term[PowersetParams]):
    """Aligns the powerset of an image's regions with the phrases of its caption (PowerCLIP, section 3)."""

    Params = PowersetParams
    rank = 1
    tag = "powerclip"
    citation = CITATION
    labels: ClassVar[Mapping[str, str]] = {
        "powerset": "Powerset term",
        "positive_share": "Similarities above the cost (%)",
        "score_sd": "Spread (SD) of the scores S",
        "caption_share": "Variance of S by caption alone (%)",
        "norm_order": "q of the norm",
        **{f"norm_order_{words}": f"q of phrases of {words} words" for words in range(1, MOST_WORDS)},
        f"norm_order_{MOST_WORDS}": f"q of phrases of {MOST_WORDS} words or more",
    }

    @classmethod
    def describe(cls, params: TermParams) -> dict[str, float]:
        """See Term."""
        assert isinstance(params, PowersetParams)
        return {f"the powerset loss of PowerCLIP ({params.aggregator})": params.weight}

    def learnt(self) -> dict[str, float]:
        """The scale of S under cross-entropy, as its logarithm, and b where it is learnt."""
        found = {}
        if self.params.loss == "cross-entropy":
            found["score_scale"] = math.log(self.params.temperature)
        if self.params.cost == "learnt":
            found["cost"] = 0.0
        return found | {name: math.log(self.params.settings()["norm_order"] - 1) for name in self._orders()}

    def _orders(self) -> list[str]:
        """The names of log(q − 1), where q is learnt."""
        if "norm_order" not in self.params.settings():
            return []
        words = [f"order_{words}" for words in range(1, MOST_WORDS + 1)]
        return {"none": [], "one": ["order"], "words": words}[self.params.learnt_order]

    def features(self, image: "ImageFeatures", text: "TextFeatures", batch: "Batch") -> "dict[str, Tensor]":
        """Regions I R D and phrases C P D as they are pooled, and which of them are real."""
        from vlalign.objectives.alignment import pool_phrases, pool_regions

        assert batch.coverage is not None
        assert batch.words is not None
        assert batch.members is not None
        assert batch.region_mask is not None
        assert batch.phrase_mask is not None
        normalise = self.params.phrases.normalise
        words = {"phrase_words": batch.members.sum(-1)} if len(self._orders()) > 1 else {}
        return {
            "regions_IRD": pool_regions(image.patches_IVD, batch.coverage),
            "region_mask": batch.region_mask,
            "phrases_CPD": pool_phrases(text.tokens_CLD, batch.words, batch.members, normalise=normalise),
            "phrase_mask": batch.phrase_mask,
            **words,
        }

    def losses(self, pairs: Pairs, features: "Mapping[str, Tensor]", step: Step) -> "dict[str, Tensor]":
        """See `powerset_loss`."""
        from vlalign.objectives.mining import powerset_loss

        params = self.params
        loss = powerset_loss(
            *self.aligned(features, group=self.group),
            region_mask=features["region_mask"],
            phrase_mask=features["phrase_mask"],
            aggregator=self._rule(features, step),
            loss=params.loss,
            margin=params.margin,
            negatives=params.negatives,
            scale=features["score_scale"].exp() if "score_scale" in features else 1.0,
            per_region=params.per_region,
            direction=params.direction,
            generator=step.random("subsets"),
            group=self.group,
        )
        return {"powerset": loss}

    def aligned(self, features: "Mapping[str, Tensor]", *, group: Any = None) -> "tuple[Tensor, Tensor]":
        """Regions I R D and phrases C P D as they are scored: centred over the batch, or not."""
        from vlalign.objectives.alignment import centre

        regions, phrases = features["regions_IRD"], features["phrases_CPD"]
        if self.params.centre:
            regions = centre(regions, features["region_mask"], group=group)
            phrases = centre(phrases, features["phrase_mask"], group=group)
        return regions, phrases

    def statistics(self, pairs: Pairs, features: "Mapping[str, Tensor]", step: Step) -> dict[str, float]:
        """What tells whether the powerset does anything.

        positive_share: percent of the similarities between an image's own regions and phrases that are above the cost;
        near 100 the best subset is always all regions. score_sd: standard deviation of S over the batch; near 0 the
        scores have collapsed. caption_share: percent of the variance of S that is an offset of whole captions, which
        tells images apart not at all. cost: b, where it is learnt or taken from the batch too. norm_order,
        norm_order_<words>: q, where it is learnt.
        """
        from vlalign.objectives.powerset import batch_cost, powerset_scores

        regions, phrases = self.aligned(features)
        masks = {"region_mask": features["region_mask"], "phrase_mask": features["phrase_mask"]}
        rule = self._rule(features, step)
        cost = float(batch_cost(regions, phrases, **masks) if isinstance(rule.cost, str) else rule.cost)
        real = masks["phrase_mask"][:, :, None] & masks["region_mask"][:, None]
        above = (phrases @ regions.mT)[real] > cost
        how: dict[str, Any] = {**masks, "aggregator": rule, "generator": step.random("subsets")}
        scores = powerset_scores(regions, phrases, **how)
        scores_IC = scores.of(self.params.direction)
        if self.params.per_region:
            scores_IC = scores_IC / masks["region_mask"].sum(1, keepdim=True).clamp_min(1)
        variance, offsets = scores_IC.var(correction=0), scores_IC.mean(0).var(correction=0)
        return {
            "positive_share": 100 * above.float().mean().item(),
            "score_sd": variance.sqrt().item(),
            "cost": cost,
            "caption_share": 100 * (offsets / variance.clamp_min(1e-30)).item(),
            **{f"norm_{name}": _order(features[name]).item() for name in self._orders()},
        }

    def _rule(self, features: "Mapping[str, Tensor]", step: Step) -> Aggregator:
        learnt = {}
        if orders := [_order(features[name]) for name in self._orders()]:
            import torch

            learnt["norm_order"] = orders[0]
            if "phrase_words" in features:
                # What is no phrase has no words.
                learnt["norm_order"] = torch.stack(orders)[features["phrase_words"].long().clamp(1, MOST_WORDS) - 1]
        return self.params.rule(cost=features.get("cost"), progress=step.progress, **learnt)


def _order(number: "Tensor") -> "Tensor":
    """q of log(q − 1), which is what is learnt."""
    return 1 + number.exp().clamp(max=HIGHEST_ORDER - 1)
