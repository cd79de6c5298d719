"""Zero-shot classification by prompts, as CLIP (arXiv 2103.00020, section 3.1.4) and CLIP_benchmark do it."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.errors import VlalignError
from vlalign.evaluation.ranking import Scores, UnmeasurableError, percent, strictly_best

# OpenAI's list of ImageNet's 1,000 names has these twice, and every published accuracy was measured with it.
IMAGENET_CLASSES, IMAGENET_TWINS = 1000, {"missile", "sunglasses"}
logger = logging.getLogger(__name__)


def read_classnames(path: Path) -> list[str]:
    """The names of `classnames.txt`, one a line: line k is class k - 1.

    Raises VlalignError naming file and line for a blank line between names, which would shift the classes after it, for
    a name that occurs twice, for bytes that are not UTF-8, and for a file without names.
    """
    names = _read_lines(path, "class name")
    seen: dict[str, int] = {}
    for line, name in enumerate((" ".join(name.split()) for name in names), start=1):
        first = seen.setdefault(name, line)
        if first == line:
            continue
        twins = f"{path}: lines {first} and {line} are both {name!r}"
        if len(names) != IMAGENET_CLASSES or name not in IMAGENET_TWINS:
            raise VlalignError(f"{twins}, which no prompt can tell apart; give one of them another name")
        logger.warning("%s, as in OpenAI's list for ImageNet: all images of both count as wrong", twins)
    return names


def read_templates(path: Path) -> list[str]:
    """The templates of `zeroshot_classification_templates.txt`, one a line.

    Raises VlalignError naming file and line for one without `{c}`, a blank one, bytes that are not UTF-8, and a file
    without templates.
    """
    templates = _read_lines(path, "template")
    for line, template in enumerate(templates, start=1):
        if "{c}" not in template:
            raise VlalignError(
                f"{path}: line {line}, {template!r}, has no {{c}}; write it where the class name belongs"
            )
    return templates


def _read_lines(path: Path, what: str) -> list[str]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise VlalignError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None
    # Not `splitlines`, which also cuts at characters that may stand within a name.
    lines = [line.removesuffix("\r") for line in text.rstrip().split("\n")]
    if lines == [""]:
        raise VlalignError(f"{path} has no {what}; write one per line, as CLIP_benchmark does")
    if blank := next((number for number, line in enumerate(lines, start=1) if not line.strip()), None):
        raise VlalignError(f"{path}: line {blank} is blank; write a {what} there or delete the line")
    return lines


def check_labels(labels: Sequence[int], classnames: Sequence[str], *, data: Path, names: Path) -> None:
    """Raises VlalignError when a label of `data` is beyond the names of the file `names`."""
    largest = max(labels, default=-1)
    if largest >= len(classnames):
        raise VlalignError(
            f"{data} has the class {largest}, but {names} has {len(classnames)} names, for the classes 0 to "
            f"{len(classnames) - 1}; add the names that are missing, or correct the labels"
        )


def fill_templates(classnames: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Prompts, class by class: every template with its `{c}` replaced."""
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

    Raises UnmeasurableError for fewer than two classes.
    """
    if len(classnames) < 2:
        raise UnmeasurableError(f"zero-shot classification needs at least 2 classes, not {len(classnames)}")
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
