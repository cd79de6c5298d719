"""Items of compositional hard negatives, and which of them are right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vlalign.errors import VlalignError
from vlalign.evaluation.ranking import TIE
from vlalign.files import read_object


@dataclass(frozen=True)
class CompositionItem:
    """One image with a true and a false caption; `negative_key` names an image of which the false one is true."""

    key: str
    caption: str
    negative_caption: str
    negative_key: str | None


def read_category(path: Path, keys: Mapping[str, str] | None = None) -> list[CompositionItem]:
    """Read one SugarCrepe file {id: {filename, caption, negative_caption[, negative_filename]}}.

    keys: of packed images, by their path in the source, which `filename` is then; without them an image's key is the
    stem of its `filename`.
    Raises VlalignError naming the file and the item when a field is missing.
    """
    # A name that was not packed stays what it is, since its stem may be the running key of another image.
    key_of = (lambda name: keys.get(name, name)) if keys else (lambda name: Path(name).stem)
    items = []
    for name, entry in read_object(path).items():
        try:
            negative = entry.get("negative_filename")
            image, caption, false = (entry[key] for key in ("filename", "caption", "negative_caption"))
            if not all(isinstance(text, str) for text in (image, caption, false, "" if negative is None else negative)):
                raise VlalignError(f"{path}: item {name} has something else than text; see SugarCrepe's format")
            negative_key = None if negative is None else key_of(negative)
            items.append(CompositionItem(key_of(image), caption, false, negative_key))
        except KeyError as error:
            raise VlalignError(f"{path}: item {name} has no {error.args[0]!r}; see SugarCrepe's format") from None
        except (AttributeError, TypeError):
            raise VlalignError(f"{path}: item {name} is no object; see SugarCrepe's format") from None
    return items


def category_hits(similarity_N22: Tensor, paired_N: Tensor) -> dict[str, Tensor]:
    """Which items of one category are right; a model that cannot tell two candidates apart gets nothing.

    similarity_N22: [item, image, caption], in either place 0 the positive and 1 the negative; the row of a negative
    image that does not exist is ignored. paired_N: bool, whether the item has a negative image.

    Returns bool [N] of "accuracy" (SugarCrepe: the image prefers its caption); with pairs also, over these alone, of
    Winoground's "text", "image" and "group" (arXiv 2204.03162, equations 1-3).
    """
    prefers_caption = similarity_N22[:, 0, 0] > similarity_N22[:, 0, 1] + TIE
    if not paired_N.any():
        return {"accuracy": prefers_caption}
    pairs = similarity_N22[paired_N]
    text = prefers_caption[paired_N] & (pairs[:, 1, 1] > pairs[:, 1, 0] + TIE)
    image = (pairs[:, 0, 0] > pairs[:, 1, 0] + TIE) & (pairs[:, 1, 1] > pairs[:, 0, 1] + TIE)
    return {"accuracy": prefers_caption, "text": text, "image": image, "group": text & image}


def item_similarities(
    items: Sequence[CompositionItem], images: Mapping[str, Tensor], captions: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The arguments of `category_hits`, from unit-norm embeddings [D] by image key and by caption.

    Raises VlalignError naming the first image that the shards do not have.
    """
    keys = (key for item in items for key in (item.key, item.negative_key) if key is not None)
    for key in (key for key in keys if key not in images):
        raise VlalignError(f"composition image {key} is not in the shards beside its category file; make them again")
    images_N2D = torch.stack([torch.stack([images[i.key], images[i.negative_key or i.key]]) for i in items])
    captions_N2D = torch.stack([torch.stack([captions[i.caption], captions[i.negative_caption]]) for i in items])
    similarity_N22 = (images_N2D[:, :, None] * captions_N2D[:, None]).sum(-1)
    return similarity_N22, torch.tensor([item.negative_key is not None for item in items])
