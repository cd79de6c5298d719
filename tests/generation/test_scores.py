"""Scores of generated pictures: what is known beforehand comes out."""

import numpy as np
import pytest
import torch
from PIL import Image

from vlalign.data.samples import decode_image, encode_png
from vlalign.errors import VlalignError
from vlalign.generation import scores
from vlalign.generation.metrics import PACKAGE
from vlalign.generation.pictures import Captions
from vlalign.generation.scores import PooledFeatures, frechet_distance, score


class Colours(torch.nn.Module):
    """Mean of each colour."""

    num_features = 3

    def forward(self, pictures_N3HW):
        return pictures_N3HW.double().mean((2, 3))


def plain(colours):
    return [Image.fromarray(np.full((8, 8, 3), colour, np.uint8)) for colour in colours]


def test_the_distance_is_that_of_gaussians():
    """Against the formula in NumPy, of features that are known."""
    draw = np.random.default_rng(0)
    real, made = draw.integers(0, 200, (300, 3)), draw.integers(60, 250, (200, 3))
    covariances = [np.cov(one, rowvar=False) for one in (real, made)]
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real).sum()
    expected = ((real.mean(0) - made.mean(0)) ** 2).sum() + sum(map(np.trace, covariances)) - 2 * root
    assert frechet_distance(plain(real), plain(made), Colours(), side=8) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(plain(real), plain(real), Colours(), side=8) == pytest.approx(0, abs=1e-3)


def test_packaged_features_are_those_of_the_frozen_tower():
    features = PooledFeatures()
    with torch.inference_mode():
        found = features(torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8))
    assert found.shape == (2, features.num_features)
    assert (found[0] != found[1]).any()


class Judge(torch.nn.Module):
    """Knows of each picture and caption which one it is."""


@pytest.fixture
def known(generating, monkeypatch):
    """Pictures that are the real ones, a judge that tells them apart, and features that are quick to compare."""
    captions = Captions(generating.split, 10)
    samples = list(captions.samples())
    rows = [{"key": sample.key, "caption": sample.captions[0], "image": sample.image} for sample in samples]
    ways = {sample.key: way for sample, way in zip(samples, torch.eye(10), strict=True)}
    texts = {sample.captions[0]: ways[sample.key] for sample in samples}
    monkeypatch.setattr(scores, "read_generated", lambda _: iter(rows))
    monkeypatch.setattr(scores, "PooledFeatures", type("Quick", (Colours,), {"side": 8}))
    monkeypatch.setattr(scores, "encode_texts", lambda _, some: torch.stack([texts[text] for text in some]))
    monkeypatch.setattr(
        scores, "encode_images", lambda _, some: ((), torch.stack([ways[sample.key] for sample in some]))
    )
    return rows, captions


def found(captions, **how):
    rows = score(None, captions, fid=PACKAGE, **how)
    return {(row.metric, row.group): row for row in rows}


def test_pictures_that_are_the_real_ones_score_as_these(known):
    _, captions = known
    of = found(captions, judge=Judge())
    assert of["fid_efficientnet_lite0", "all"].value == pytest.approx(0, abs=1e-2)
    assert of["fid_efficientnet_lite0", "real"].value > 1, "half of them are not the other half"
    assert of["clip_score", "all"].value == of["clip_score", "real"].value == pytest.approx(1)
    assert of["clip_score", "all"].chance == 0
    assert [row.n for row in of.values()] == [10, 5, 10, 10]
    assert of["fid_efficientnet_lite0", "all"].direction == "lower"


def test_pictures_of_other_captions_score_as_chance(known):
    rows, captions = known
    for row, key in zip(rows, [row["key"] for row in rows[1:] + rows[:1]], strict=True):
        row["key"] = key
    of = found(captions, judge=Judge())
    assert of["clip_score", "all"].value == 0
    assert of["clip_score", "real"].value == pytest.approx(1)


def test_darker_pictures_are_farther(known):
    rows, captions = known
    for row in rows:
        row["image"] = encode_png(np.asarray(decode_image(row["image"])) // 3)
    of = found(captions)
    assert of["fid_efficientnet_lite0", "all"].value > of["fid_efficientnet_lite0", "real"].value
    assert ("clip_score", "all") not in of


def test_weights_of_inception_must_be_there(generating, tmp_path):
    with pytest.raises(VlalignError, match=r"generation\.fid: .*inception\.pth is no file; give torch-fidelity's"):
        score(None, Captions(generating.split, 10), fid="inception.pth", base=tmp_path)
