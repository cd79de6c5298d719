import random

import pytest
import torch

from vlalign.annotate.regions.boxes import random_boxes


@pytest.mark.parametrize("grid", [(7, 7), (3, 5), (1, 1), (14, 14)])
def test_no_box_is_empty_and_none_covers_more_than_all(grid):
    boxes = random_boxes(random.Random(0), 500, grid)
    assert boxes.shape == (500, grid[0] * grid[1])
    assert (boxes.sum(1) > 0).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 1 + 1e-6


def test_coverage_is_that_of_a_box_drawn_finely():
    coarse, fine = (random_boxes(random.Random(3), 50, (size, size)) for size in (5, 500))
    pooled = torch.nn.functional.avg_pool2d(fine.view(50, 1, 500, 500), 100).flatten(1)
    torch.testing.assert_close(coarse, pooled, atol=1e-5, rtol=0)
    assert ((fine > 0) & (fine < 0.99)).float().mean() < 0.02, "a rectangle, apart from its edges"


def test_centres_and_sides_are_uniform_before_they_are_cut():
    """Of an uncut box the area is the product of two sides from 1/8 to 1; centres are anywhere."""
    boxes = random_boxes(random.Random(1), 4000, (64, 64)).view(-1, 64, 64)
    touched = (boxes > 0).float().mean(0)
    assert touched[32, 32] > 2 * touched[0, 0], "boxes are cut at the border"
    torch.testing.assert_close(touched, touched.T, atol=0.05, rtol=0)
    # P(a point in the middle is inside along one axis) = E[extent - extent² / 4 ... ] by simulation of the definition
    rng = random.Random(2)
    inside = [abs(rng.random() - 0.5) <= rng.uniform(0.125, 1) / 2 for _ in range(20_000)]
    assert touched[32, 32].item() == pytest.approx((sum(inside) / len(inside)) ** 2, abs=0.03)


def test_boxes_depend_on_the_generator_alone():
    one = random_boxes(random.Random("0/1/key"), 4, (7, 7))
    assert torch.equal(one, random_boxes(random.Random("0/1/key"), 4, (7, 7)))
    assert not torch.equal(one, random_boxes(random.Random("0/2/key"), 4, (7, 7)))
    assert torch.equal(one[:2], random_boxes(random.Random("0/1/key"), 2, (7, 7)))
