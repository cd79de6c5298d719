"""Zero-shot classification by prompts, as CLIP (arXiv 2103.00020, section 3.1.4) and CLIP_benchmark do it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.errors import VlalignError
from vlalign.evaluation.ranking import Scores, percent, strictly_best


def fill_templates(classnames: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Prompts, class by class: every template with its `{c}` replaced; raises VlalignError for one without `{c}`."""
    for template in templates:
        if "{c}" not in template:
            raise VlalignError(f"zero-shot template {template!r} has no {{c}}; write it where the class name belongs")
    return [template.replace("{c}", name) for name in classnames for template in templates]


def zeroshot_classifier(prompts_CD: Tensor, classes: int) -> Tensor:
    """Unit-norm class vectors [K, D]: normalise each prompt, average over a class's templates, normalise again.

    `prompts_CD` is ordered as `fill_templates` orders it.
    """
    return F.normalize(F.normalize(prompts_CD, dim=-1).unflatten(0, (classes, -1)).mean(1), dim=-1)


def zeroshot_scores(images_ID: Tensor, labels_I: Tensor, classifier_KD: Tensor, classnames: Sequence[str]) -> Scores:
    """Accuracy in percent, over images and per class; an image whose best class is tied counts as wrong.

    Args:
        images_ID: unit-norm image embeddings.
        labels_I: long, index into `classnames`.
        classifier_KD: unit-norm class vectors.
        classnames: one name per class; a class without images is left out of "per_class".

    Raises VlalignError for a label without a name.
    """
    if labels_I.max() >= len(classnames):
        raise VlalignError(
            f"label {labels_I.max()} has no name: classnames.txt has {len(classnames)}; add what is missing"
        )
    correct_IK = F.one_hot(labels_I, len(classnames)).bool()
    hits_I = strictly_best(images_ID @ classifier_KD.T, correct_IK)
    chance = 100.0 / len(classnames)
    accuracy = percent(hits_I)
    return {
        "accuracy": accuracy,
        "chance": chance,
        "times_chance": accuracy / chance,
        "images": len(images_ID),
        "classes": len(classnames),
        "per_class": {classnames[k]: percent(hits_I[labels_I == k]) for k in torch.unique(labels_I).tolist()},
    }
