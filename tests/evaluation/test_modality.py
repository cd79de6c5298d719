import numpy as np
import pytest
import torch
from evaluation_cases import constant, overall, unit

from vlalign.evaluation.benchmark import UnmeasurableError
from vlalign.evaluation.benchmarks.modality import modality_rows
from vlalign.evaluation.gap import probe_accuracy, uniformity


def test_uniformity_agrees_with_loops() -> None:
    points = unit(20, 4)
    pairs = [np.exp(-2 * ((a - b) ** 2).sum()) for i, a in enumerate(points.numpy()) for b in points.numpy()[i + 1 :]]
    assert uniformity(points) == pytest.approx(np.log(np.mean(pairs)), abs=1e-6)
    assert uniformity(points, chunk=3) == pytest.approx(uniformity(points), abs=1e-9)


def test_uniformity_of_a_collapsed_and_of_a_spread_embedding() -> None:
    assert uniformity(constant(10)) == pytest.approx(0, abs=1e-9)
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)


def test_probe_separates_what_is_apart_and_only_that() -> None:
    near, far = unit(400, 3), torch.tensor([3.0, 0.0, 0.0])
    assert probe_accuracy(near, unit(400, 3, seed=1) + far) == 100
    assert probe_accuracy(near, unit(400, 3, seed=1)) == pytest.approx(50, abs=8)
    assert probe_accuracy(near, near) == 50


def test_scores_of_two_distant_clouds() -> None:
    images, captions = constant(8), -constant(8)
    scores = overall(modality_rows(images + 0.01 * unit(8, 4), captions + 0.01 * unit(8, 4, seed=1)))
    assert scores["mean_distance"] == pytest.approx(2, abs=0.02)
    assert scores["cs_divergence"] > 0.5
    assert scores["probe_accuracy"] == 100


def test_equal_clouds_have_no_gap() -> None:
    scores = overall(modality_rows(unit(30, 4), unit(30, 4)))
    assert scores["mean_distance"] == 0
    assert scores["cs_divergence"] == pytest.approx(0, abs=1e-5)


def test_too_few_pairs_are_an_error() -> None:
    with pytest.raises(UnmeasurableError, match=r"at least 4 .* not 3"):
        modality_rows(unit(3, 4), unit(3, 4))
