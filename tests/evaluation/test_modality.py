import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_cases import constant, overall, unit

from vlalign.evaluation.benchmark import UnmeasurableError
from vlalign.evaluation.benchmarks.modality import modality_rows
from vlalign.evaluation.gap import distribution_distance, probe_accuracy, uniformity
from vlalign.objectives.divergence import cs_divergence


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


def test_the_gap_between_two_crosses_is_known() -> None:
    """On a line at angle t they lie at ±cos t and ±sin t, so that it is √(2 E(|cos t| − |sin t|)²) = √(2 − 4 / π)."""
    one, other = (torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).roll(turn, 1).repeat(4, 1) for turn in (0, 1))
    assert distribution_distance(one, other) == pytest.approx((2 - 4 / np.pi) ** 0.5, rel=0.05)
    assert distribution_distance(one, one.flip(0)) == pytest.approx(0, abs=1e-6)


def test_place_and_scale_of_a_cloud_are_no_part_of_its_gap_to_another() -> None:
    x, y = unit(200, 8), unit(200, 8, seed=1) * torch.linspace(1, 3, 8)
    moved = 3 * x + torch.arange(8.0)
    assert distribution_distance(moved, y) == pytest.approx(distribution_distance(x, y), rel=1e-4)
    assert distribution_distance(x, y) == distribution_distance(y, x)
    flat = torch.cat([x[:, :2], torch.zeros(200, 6)], dim=1)
    near, far = distribution_distance(x, unit(200, 8, seed=2)), distribution_distance(x, flat)
    assert 0 < near < distribution_distance(x, y) < far


def test_a_gap_between_centroids_alone_leaves_none_between_distributions() -> None:
    images = F.pad(unit(60, 7), (0, 1))
    moved = overall(modality_rows(images, F.normalize(images + 3 * torch.eye(8)[7], dim=1)))
    assert moved["mean_distance"] > 0.9
    assert moved["distribution_distance"] == pytest.approx(0, abs=1e-5)
    # Centroids in one place, and captions that lie in a plane.
    plane = F.pad(unit(30, 2), (0, 6))
    flat = overall(modality_rows(torch.cat([images, -images]), torch.cat([plane, -plane, plane, -plane])))
    assert flat["mean_distance"] == pytest.approx(0, abs=1e-6)
    assert flat["distribution_distance"] > 0.3


def test_what_was_measured_before_keeps_its_value_to_the_last_bit() -> None:
    images, captions = unit(30, 4), unit(30, 4, seed=1)
    scores = overall(modality_rows(images, captions))
    assert scores["mean_distance"] == (images.mean(0) - captions.mean(0)).norm().item()
    assert scores["cs_divergence"] == cs_divergence(images, captions, sigma="median").item()
    assert scores["probe_accuracy"] == probe_accuracy(images, captions)


def test_too_few_pairs_are_an_error() -> None:
    with pytest.raises(UnmeasurableError, match=r"at least 4 .* not 3"):
        modality_rows(unit(3, 4), unit(3, 4))
