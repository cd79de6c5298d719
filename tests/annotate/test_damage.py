"""Masks that are spoilt on purpose."""

import random

import numpy as np
import pytest

from vlalign.annotate.regions.damage import damaged
from vlalign.params import RegionDamage


def masks(count=4, side=60):
    """Discs of several sizes that do not touch."""
    rows, columns = np.mgrid[:side, :side]
    middles = ((15, 15), (15, 45), (45, 15), (45, 45))[:count]
    return np.stack([(rows - y) ** 2 + (columns - x) ** 2 < (12 - x // 15) ** 2 for y, x in middles])


def spoilt(whole, seed=0, **damage):
    return damaged(whole, RegionDamage(**damage), random.Random(seed))


def test_no_damage_leaves_masks_as_they_are():
    assert np.array_equal(spoilt(masks()), masks())
    assert spoilt(np.zeros((0, 5, 5), bool), holes=0.5, merges=1).shape == (0, 5, 5)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_holes_take_a_share_of_every_mask_and_add_nothing(share):
    whole = masks()
    left = np.stack([spoilt(whole, seed, holes=share) for seed in range(50)])
    assert not (left & ~whole).any()
    missing = 1 - left.sum((2, 3)) / whole.sum((1, 2))
    assert missing.max() < 1
    # The middle block is a seventh of a disc.
    assert missing.mean() == pytest.approx(share, abs=0.08)


def test_holes_are_blocks():
    [left] = spoilt(np.ones((1, 30, 60), bool), holes=0.4)
    cells = left.reshape(3, 10, 3, 20)
    assert np.array_equal(cells.any((1, 3)), cells.all((1, 3)))
    assert (~cells.any((1, 3))).sum() == 4, "4 of 9 blocks are closest to 40 %"


def test_a_merged_mask_covers_itself_and_another_one():
    whole = masks()
    seen = set()
    for seed in range(30):
        merged = spoilt(whole, seed, merges=1)
        covers = (merged[:, None] & whole).any((2, 3))
        assert np.array_equal(covers.sum(1), [2] * len(whole))
        assert covers.diagonal().all()
        assert np.array_equal(merged, np.stack([whole[row].any(0) for row in covers]))
        seen |= set(zip(*covers.nonzero(), strict=True))
    assert len(seen) == len(whole) ** 2, "each of the others has its turn"
    assert np.array_equal(spoilt(whole[:1], merges=1), whole[:1]), "there is no other"


def test_so_many_are_merged_as_are_asked_for():
    whole = masks()
    merged = [(spoilt(whole, seed, merges=0.3) != whole).any((1, 2)).mean() for seed in range(300)]
    assert np.mean(merged) == pytest.approx(0.3, abs=0.05)


def test_the_smallest_masks_do_not_vanish():
    specks = np.zeros((3, 4, 4), bool)
    specks[0, 1, 2] = specks[1, 0, 0] = specks[1, 3, 3] = specks[2, 2, :3] = True
    for seed in range(20):
        assert spoilt(specks, seed, holes=0.9, merges=0.5).any((1, 2)).all()
