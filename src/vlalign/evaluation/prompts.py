"""Names of classes and templates of prompts, and the zero-shot classifier that they make."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from vlalign.errors import VlalignError

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
    for line, text in enumerate(templates, start=1):
        if "{c}" not in text:
            raise VlalignError(f"{path}: line {line}, {text!r}, has no {{c}}; write it where the class name belongs")
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
