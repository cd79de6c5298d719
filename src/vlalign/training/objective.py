"""The total loss of a run: the weighted sum of its terms."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vlalign.models import ImageFeatures, TextFeatures
from vlalign.objectives.distributed import Group
from vlalign.objectives.numerics import precise
from vlalign.params import ObjectiveParams
from vlalign.training.data.batches import Batch
from vlalign.training.term import Pairs, Step, Term, known_terms

# What the losses need of a batch, by name: the fields of `Pairs`, and `<term>:<name>` for what a term asked for. Those
# of several parts of a batch may be joined, row by row, and the loss of the whole taken on them.
Features = dict[str, Tensor]


class Objective(nn.Module):
    """The sum of the terms, each times its weight and the share of it that a step has (`TermParams.share`).

    A term whose weights are 0 is not computed, unless it is to be watched.

    group: processes that hold a part of every batch each; see `vlalign.objectives.distributed`.
    """

    def __init__(self, params: ObjectiveParams, *, group: Group = None) -> None:
        super().__init__()
        self.params = params
        kinds = known_terms()
        chosen = {name: term for name, term in params.terms().items() if term.is_used or kinds[name].is_watched}
        self.terms: dict[str, Term] = {name: kinds[name](term, group=group) for name, term in chosen.items()}
        self.weights = {
            loss: weight for name, term in chosen.items() for loss, weight in kinds[name].weights(term).items()
        }
        numbers = {f"{name}:{key}": value for name, term in self.terms.items() for key, value in term.learnt().items()}
        self.numbers = nn.ParameterDict({name: nn.Parameter(torch.tensor(value)) for name, value in numbers.items()})

    def features(self, image: ImageFeatures, text: TextFeatures, logit_scale: Tensor, batch: Batch) -> Features:
        """What every pair contributes by itself: nothing in it depends on other pairs of the batch.

        image, text: features of `batch.all_images()` and `batch.all_tokens()`.
        """
        pairs = len(batch.tokens)
        images_ID, texts_CD = precise(image.embedding_ID), precise(text.embedding_CD)
        found = {"image_ID": images_ID[:pairs], "text_CD": texts_CD[:pairs], "logit_scale": logit_scale}
        if batch.more_images is not None:
            found["more_images_ED"] = images_ID[pairs:]
        twins = 0 if batch.twins is None else len(batch.twins)
        if batch.more_tokens is not None:
            found["more_texts_ED"] = texts_CD[pairs : len(texts_CD) - twins]
        if batch.twins is not None and batch.twin_mask is not None:
            found |= {"twins_CD": texts_CD[len(texts_CD) - twins :], "twin_mask": batch.twin_mask}
        image = ImageFeatures(*(x[:pairs] for x in image))
        text = TextFeatures(*(x[:pairs] for x in text))
        for name, term in self.terms.items():
            found |= {f"{name}:{key}": value for key, value in term.features(image, text, batch).items()}
        return found | dict(self.numbers.items())

    def forward(self, features: Features, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss, with the weights of this step, and its terms by name, without any; all scalars."""
        pairs, total = _pairs(features), torch.zeros(())
        losses: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            found, share = term.losses(pairs, _own(features, name), step), term.params.share(step.progress)
            for loss, value in found.items():
                total = total + self.weights[loss] * share * value
            losses |= found
        return total, losses

    @torch.no_grad()
    def statistics(self, features: Features, step: Step) -> dict[str, float]:
        """What else the terms show of this process's pairs."""
        found: dict[str, float] = {}
        for name, term in self.terms.items():
            found |= term.statistics(_pairs(features), _own(features, name), step)
        return found


def _pairs(features: Features) -> Pairs:
    return Pairs(**{name: features[name] for name in Pairs._fields if name in features})


def _own(features: Features, name: str) -> Mapping[str, Tensor]:
    """What a term has asked for, as it calls it."""
    prefix = f"{name}:"
    return {key.removeprefix(prefix): value for key, value in features.items() if key.startswith(prefix)}
