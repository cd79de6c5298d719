"""What a shared space is for: a gallery of both modalities, and a classifier that moves from images to text."""

import torch
from torch import Tensor

from vlalign.evaluation.modality import linear_classifier
from vlalign.evaluation.ranking import TIE, Scores, UnmeasurableError, percent


def mixed_recall(queries_ND: Tensor, partners_ND: Tensor, *, chunk: int = 512) -> float:
    """R@1 in percent when all queries and all partners form one gallery, without the query itself.

    Row i of both is a pair of unit-norm embeddings; ties, up to rounding, count against the model.
    """
    hits = []
    for start in range(0, len(queries_ND), chunk):
        rows = torch.arange(start, min(start + chunk, len(queries_ND)))
        across, within = queries_ND[rows] @ partners_ND.T, queries_ND[rows] @ queries_ND.T
        pair = across.gather(1, rows[:, None]).squeeze(1)
        across.scatter_(1, rows[:, None], -torch.inf)
        within.scatter_(1, rows[:, None], -torch.inf)
        hits.append(pair > torch.maximum(across.amax(1), within.amax(1)) + TIE)
    return percent(torch.cat(hits))


def mixed_gallery_scores(images_ND: Tensor, captions_ND: Tensor) -> Scores:
    """`mixed_recall` in both directions, one caption per image; raises UnmeasurableError for fewer than two pairs."""
    if len(images_ND) < 2:
        raise UnmeasurableError(
            f"a mixed gallery needs at least 2 images with a caption that no other image has, not {len(images_ND)}"
        )
    return {
        "mixed_image_to_text_r1": mixed_recall(images_ND, captions_ND),
        "mixed_text_to_image_r1": mixed_recall(captions_ND, images_ND),
    }


def classifier_scores(
    train: tuple[Tensor, Tensor], images: tuple[Tensor, Tensor], prompts: tuple[Tensor, Tensor], *, classes: int
) -> Scores:
    """Accuracy in percent of a linear classifier trained on image embeddings, on other images and on the prompts.

    Args:
        train: embeddings [N, D] and labels [N] (long) of the images to learn from.
        images: the same for the images to classify.
        prompts: the same for the text embeddings of the class prompts.
        classes: number of classes, for the chance level.

    Raises UnmeasurableError when the images to learn from are all of one class.
    """
    if (found := len(train[1].unique())) < 2:
        raise UnmeasurableError(f"a classifier needs images of at least 2 classes to learn from, not of {found}")
    classifier = linear_classifier().fit(train[0].numpy(), train[1].numpy())
    return {
        "classifier_on_images": 100.0 * float(classifier.score(images[0].numpy(), images[1].numpy())),
        "classifier_on_text": 100.0 * float(classifier.score(prompts[0].numpy(), prompts[1].numpy())),
        "chance": 100.0 / classes,
        "classes": classes,
    }
