"""Single cases that runs get right or wrong, beside a naive search for them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_data import COLOURS, encoder, picture, squares, write_composition, write_zeroshot

from vlalign.analysis.examples import (
    THUMBNAIL,
    confusions,
    count_confusions,
    retrieved,
    thumbnails,
    worst_negatives,
)
from vlalign.analysis.illustrations import ShownRun
from vlalign.data.samples import Sample
from vlalign.data.shards.manifest import write_split
from vlalign.evaluation.workbench import Workbench
from vlalign.files import json_text

IMAGES = 12


@pytest.fixture
def run(tmp_path: Path) -> ShownRun:
    write_split(tmp_path / "test", squares(IMAGES), source={})
    write_zeroshot(tmp_path / "zeroshot")
    write_composition(tmp_path / "composition" / "test")
    bench = Workbench(encoder(), tmp_path)
    return ShownRun("run", tmp_path, bench, "test", is_compared=True, is_subject=True)


def test_answers_are_those_of_a_naive_search(run: ShownRun) -> None:
    found, features = retrieved(run, images=5, captions=3), run.features
    scores_IC = (features.images_ID @ features.captions_CD.T).numpy()
    image_of = features.caption_image_C.numpy()
    for caption, scores in enumerate(scores_IC.T):
        assert found.to_images.best_NK[caption].tolist() == sorted(range(IMAGES), key=lambda i: -scores[i])[:5]
        assert found.to_images.rank_N[caption] == sum(scores > scores[image_of[caption]])
    for image, scores in enumerate(scores_IC):
        assert found.to_captions.best_NK[image].tolist() == sorted(range(2 * IMAGES), key=lambda c: -scores[c])[:3]
        own = max(scores[image_of == image])
        assert found.to_captions.rank_N[image] == sum(scores[image_of != image] > own)
    for answers in (found.to_images, found.to_captions):
        assert (answers.is_right == (answers.rank_N == 0)).all()
        assert answers.rank_N.max() > 0


def test_a_gallery_may_be_smaller_than_what_is_shown(run: ShownRun) -> None:
    found = retrieved(run, images=99, captions=99)
    assert found.to_images.best_NK.shape == (2 * IMAGES, IMAGES)
    assert found.to_captions.best_NK.shape == (IMAGES, 2 * IMAGES)


def test_thumbnails_are_the_pictures_of_their_rows_and_never_enlarged(tmp_path: Path) -> None:
    names = list(COLOURS)
    samples = [Sample(f"k{i}", picture(name, name, size=64 if i else 200)[0]) for i, name in enumerate(names)]
    write_split(tmp_path / "split", samples, source={}, shard_size=2)
    found = thumbnails(tmp_path / "split", [3, 0, 3], resize_mode="shortest")
    assert list(found) == [0, 3]
    assert [image.shape for image in found.values()] == [(THUMBNAIL, THUMBNAIL, 3), (64, 64, 3)]
    for row, image in found.items():
        assert np.abs(image[5, 5].astype(int) - COLOURS[names[row]]).max() <= 2


def test_confusions_are_a_naive_count(run: ShownRun) -> None:
    found = confusions(run, classes=20)
    images_ID, labels_I = run.bench.labelled("test")
    mean_KD = run.bench.prompts("test").embeddings_CD.unflatten(0, (4, 2)).mean(1)
    chosen = [int((mean_KD @ image / mean_KD.norm(dim=1)).argmax()) for image in images_ID]
    expected = np.zeros((4, 4), int)
    for label, choice in zip(labels_I.tolist(), chosen, strict=True):
        expected[label, choice] += 1
    assert found.names == tuple(COLOURS)
    assert found.counts_SS.tolist() == expected.tolist()
    assert (found.right, found.images) == (np.trace(expected), 12)
    assert not found.elsewhere_S.any()


def test_the_classes_with_most_mistakes_are_shown_and_their_rows_stay_whole() -> None:
    random = torch.Generator().manual_seed(0)
    labels_I = torch.randint(30, (900,), generator=random)
    chosen_I = torch.where(torch.rand(900, generator=random) < 0.5, labels_I, labels_I.roll(1))
    names = tuple(f"class {k}" for k in range(30))
    mistakes = [0] * 30
    for label, choice in zip(labels_I.tolist(), chosen_I.tolist(), strict=True):
        if label != choice:
            mistakes[label] += 1
            mistakes[choice] += 1
    worst = sorted(sorted(range(30), key=lambda k: -mistakes[k])[:20])
    found = count_confusions(labels_I, chosen_I, names, most=20)
    assert found.names == tuple(names[k] for k in worst)
    for row, k in enumerate(worst):
        of_class = chosen_I[labels_I == k]
        assert found.counts_SS[row].tolist() == [int((of_class == other).sum()) for other in worst]
        assert found.counts_SS[row].sum() + found.elsewhere_S[row] == len(of_class)
    assert found.elsewhere_S.any()
    assert found.right == int((labels_I == chosen_I).sum())


def test_the_worst_hard_negatives_are_the_worst(run: ShownRun, tmp_path: Path) -> None:
    names = list(COLOURS)
    pairs = [(a, b) for a in names for b in names if a != b]
    samples = [Sample(f"c{i:02d}", picture(*pair)[0]) for i, pair in enumerate(pairs)]
    swap = {
        str(i): {
            "filename": f"c{i:02d}.png",
            "caption": f"a {a} square and a {b} square",
            "negative_caption": f"a {b} square and a {a} square",
        }
        for i, (a, b) in enumerate(pairs)
    }
    odd = {name: {**item, "negative_caption": "nothing"} for name, item in swap.items() if int(name) % 2}
    tables = {"odd.json": odd, "swap.json": swap}
    files = {name: json_text(table) for name, table in tables.items()}
    write_split(tmp_path / "composition" / "test", samples, source={}, files=lambda: files)
    _, images, captions = run.bench.composition("test")
    found = worst_negatives(run)
    assert [one.category for one in found] == ["odd", "swap"]
    for one, table in zip(found, tables.values(), strict=True):
        margins = {}
        for item in table.values():
            image = images[item["filename"].removesuffix(".png")]
            true, false = (float(image @ captions[item[key]]) for key in ("caption", "negative_caption"))
            margins[item["filename"]] = false - true
        worst = max(margins, key=lambda name: margins[name])
        assert f"{one.item.key}.png" == worst
        assert one.false - one.true == pytest.approx(margins[worst], abs=1e-6)
        assert one.is_right == (margins[worst] < 0)
        colours = [COLOURS[name] for name in pairs[int(one.item.key[1:])]]
        shown = one.image[4, 4], one.image[4, -4]
        assert all(np.abs(pixel.astype(int) - colour).max() <= 2 for pixel, colour in zip(shown, colours, strict=True))
