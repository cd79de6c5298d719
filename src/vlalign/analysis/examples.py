"""Single cases that trained runs get right or wrong: answers to queries, confused classes, hard negatives."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vlalign.analysis.illustrations import ShownRun
from vlalign.data.samples import decode_image
from vlalign.data.shards.split import Split
from vlalign.evaluation.hard_negatives import CompositionItem, item_similarities
from vlalign.evaluation.ranking import TIE
from vlalign.evaluation.recall import retrieval_ranks
from vlalign.models.pictures import fit

# Most pixels of a small picture's side.
THUMBNAIL = 80


@dataclass(frozen=True)
class Answers:
    """What a run finds for every query of a split, as `retrieval_ranks` counts: the queries are captions or images.

    rank_N: wrong answers at least as similar as the best right one. best_NK: the rows of the K most similar answers,
    the best first.
    """

    rank_N: np.ndarray
    best_NK: np.ndarray

    @property
    def is_right(self) -> np.ndarray:
        """Whether the best answer to each query is a right one, bool [N]."""
        return self.rank_N == 0


@dataclass(frozen=True)
class Retrieved:
    """Answers of one run in both directions, and where the split lies whose pictures and captions these are.

    caption_image_C: the image of each caption. resize_mode: how the run's encoder fits pictures.
    """

    split: Path
    captions: tuple[str, ...]
    caption_image_C: np.ndarray
    to_images: Answers
    to_captions: Answers
    resize_mode: str


def retrieved(run: ShownRun, *, images: int, captions: int) -> Retrieved:
    """The `images` most similar images of every caption, and the `captions` most similar captions of every image."""
    features = run.features
    images_ID, captions_CD, caption_image_C = features.images_ID, features.captions_CD, features.caption_image_C
    caption_ranks_I, image_ranks_C = retrieval_ranks(images_ID, captions_CD, caption_image_C)
    return Retrieved(
        run.bench.data / run.split,
        features.captions,
        caption_image_C.numpy(),
        Answers(image_ranks_C.numpy(), most_similar(captions_CD, images_ID, images)),
        Answers(caption_ranks_I.numpy(), most_similar(images_ID, captions_CD, captions)),
        run.bench.encoder.preprocess["resize_mode"],
    )


def most_similar(queries_ND: Tensor, gallery_MD: Tensor, count: int, *, chunk: int = 512) -> np.ndarray:
    """Rows of the gallery that are most similar to each query, N K, K being `count` or M; chunk: queries at once."""
    count = min(count, len(gallery_MD))
    return torch.cat([(some_ND @ gallery_MD.T).topk(count).indices for some_ND in queries_ND.split(chunk)]).numpy()


def thumbnails(split: Path, rows: Iterable[int], *, resize_mode: str) -> dict[int, np.ndarray]:
    """Small square pictures of a split by their row, H W 3, as an encoder fits them; only these are read."""
    data, found = Split(split), {}
    for row in sorted(set(rows)):
        shard, place = data.locate(row)
        picture = decode_image(data.open(shard).image(place))
        size = min(THUMBNAIL, *picture.size)
        found[row] = fit(picture, size, resize_mode=resize_mode).permute(1, 2, 0).numpy()
    return found


@dataclass(frozen=True)
class Confusions:
    """Zero-shot classification of the images of K classes.

    names: of the classes that are shown, S of them. counts_SS: images of the class of a row that were taken for that
    of a column. elsewhere_S: images of a class that were taken for one that is not shown. right, images: of all
    classes.
    """

    names: tuple[str, ...]
    counts_SS: np.ndarray
    elsewhere_S: np.ndarray
    right: int
    images: int


def confusions(run: ShownRun, *, classes: int) -> Confusions:
    """Of the classes that are most often taken for another, or another for them, in the order of the classes."""
    images_ID, labels_I = run.bench.labelled(run.split)
    chosen_I = (images_ID @ run.bench.classifier(run.split).T).argmax(1)
    return count_confusions(labels_I, chosen_I, run.bench.prompts(run.split).classnames, most=classes)


def count_confusions(labels_I: Tensor, chosen_I: Tensor, names: tuple[str, ...], *, most: int) -> Confusions:
    """Labels and chosen classes, both long [I], of at most `most` classes; see `confusions`."""
    wrong_I = labels_I != chosen_I
    mistakes_K = torch.cat([labels_I[wrong_I], chosen_I[wrong_I]]).bincount(minlength=len(names))
    shown_S = mistakes_K.argsort(descending=True, stable=True)[:most].sort().values
    rows_IS, columns_IS = labels_I[:, None] == shown_S, chosen_I[:, None] == shown_S
    counts_SS = (rows_IS.long().T @ columns_IS.long()).numpy()
    elsewhere_S = rows_IS.sum(0).numpy() - counts_SS.sum(1)
    right = int((~wrong_I).sum())
    return Confusions(tuple(names[k] for k in shown_S.tolist()), counts_SS, elsewhere_S, right, len(labels_I))


@dataclass(frozen=True)
class HardNegative:
    """An item with its picture, H W 3, and the picture's similarity with the true and with the false caption."""

    category: str
    item: CompositionItem
    image: np.ndarray
    true: float
    false: float

    @property
    def is_right(self) -> bool:
        """Whether the true caption is the more similar one, by more than rounding."""
        return self.true > self.false + TIE


def worst_negatives(run: ShownRun) -> list[HardNegative]:
    """Of each category the first item whose false caption is ahead of the true one by most, or behind by least."""
    categories, images, captions = run.bench.composition(run.split)
    worst = {name: _worst(items, images, captions) for name, items in categories.items()}
    split, rows = run.bench.data / "composition" / run.split, {key: row for row, key in enumerate(images)}
    how = run.bench.encoder.preprocess["resize_mode"]
    pictures = thumbnails(split, (rows[item.key] for item, *_ in worst.values()), resize_mode=how)
    return [HardNegative(name, item, pictures[rows[item.key]], *scores) for name, (item, *scores) in worst.items()]


def _worst(
    items: Sequence[CompositionItem], images: Mapping[str, Tensor], captions: Mapping[str, Tensor]
) -> tuple[CompositionItem, float, float]:
    """The worst of some items, with the similarities of its picture with the true and with the false caption."""
    similarity_N22, _ = item_similarities(items, images, captions)
    true_N, false_N = similarity_N22[:, 0].unbind(1)
    row = int((false_N - true_N).argmax())
    return items[row], float(true_N[row]), float(false_N[row])
