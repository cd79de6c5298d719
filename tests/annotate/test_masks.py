import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw

from vlalign.annotate.regions.masks import decode_mask, encode_mask, grid_shape, reduce_mask
from vlalign.errors import VlalignError


def last_pixel(shape):
    mask = np.zeros(shape, bool)
    mask[-1, -1] = True
    return mask


def noise(shape, share):
    return np.random.default_rng(0).random(shape) < share


def drawn(kind, rng, side=128):
    """A smooth mask, as segmenters draw them: an ellipse, or a polygon of up to nine corners around a centre."""
    picture = Image.new("1", (side, side))
    centre, radii = rng.uniform(0.2, 0.8, 2) * side, rng.uniform(0.05, 0.4, 2) * side
    if kind == "ellipse":
        ImageDraw.Draw(picture).ellipse([*(centre - radii), *(centre + radii)], fill=1)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 10)))
        corners = centre + radii * np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.6, 1, (len(angles), 1))
        ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners], fill=1)
    return np.asarray(picture)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
@example(np.zeros((5, 7), bool))
@example(np.ones((5, 7), bool))
@example(np.ones((1, 1), bool))
@example(np.zeros((1, 1), bool))
@example(np.ones((1, 700), bool))
@example(np.ones((700, 1), bool))
@example(last_pixel((1, 256)))
@example(last_pixel((1, 255)))
@example(last_pixel((600, 400)))
@example(noise((300, 400), 0.5))
@example(noise((300, 400), 0.001))
@example(noise((1, 3000), 0.004))
def test_masks_come_back_as_they_were(mask):
    decoded = decode_mask(encode_mask(mask), mask.shape)
    assert decoded.dtype == bool
    assert decoded.shape == mask.shape
    assert np.array_equal(decoded, mask)


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_gaps_of_any_length_come_back(before, after):
    mask = np.repeat([False, True, False], [before, 1, after])[None]
    assert np.array_equal(decode_mask(encode_mask(mask), mask.shape), mask)


def test_encoding_leaves_the_mask_as_it_was():
    mask = noise((30, 30), 0.5)
    before = mask.copy()
    encode_mask(mask)
    assert np.array_equal(mask, before)


def test_a_part_of_an_array_is_encoded_as_its_copy():
    mask = noise((30, 30), 0.5)
    assert encode_mask(mask[3:20:2, 5:17]) == encode_mask(mask[3:20:2, 5:17].copy())


@pytest.mark.parametrize(("mask", "size"), [(np.ones((90, 70), bool), 1), (np.zeros((90, 70), bool), 0)])
def test_a_full_box_takes_a_byte_and_an_empty_one_none(mask, size):
    assert len(encode_mask(mask)) == size


@pytest.mark.parametrize("kind", ["ellipse", "polygon"])
def test_ten_smooth_masks_fit_in_a_kilobyte_and_in_a_third_of_the_bytes_of_their_bits(kind):
    rng = np.random.default_rng(0)
    encoded, plain = b"", b""
    for mask in (drawn(kind, rng) for _ in range(300)):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        encoded += encode_mask(inside)
        plain += np.packbits(inside).tobytes()
    size = len(zlib.compress(encoded)) / 30
    assert size <= 1024
    assert size < len(plain) / 30 / 3


@pytest.mark.parametrize("data", [b"\x63", b"\x01\xff", b"\xff\x01", b"\x01" * 10])
def test_damage_that_shows_is_named(data):
    with pytest.raises(VlalignError, match="a mask of 3 x 3 cells is damaged; delete its file"):
        decode_mask(data, (3, 3))


@pytest.mark.parametrize(
    ("size", "side", "grid"),
    [
        ((96, 96), 128, (96, 96)),
        ((480, 640), 128, (96, 128)),
        ((640, 427), 128, (128, 85)),
        ((128, 3), 128, (128, 3)),
        ((5000, 2), 128, (128, 1)),
        ((1, 1), 1, (1, 1)),
    ],
)
def test_the_grid_keeps_the_proportions_and_is_never_finer_than_the_picture(size, side, grid):
    assert grid_shape(*size, side=side) == grid


def test_a_mask_on_its_own_grid_stays_exact():
    mask = noise((41, 67), 0.5)
    assert np.array_equal(reduce_mask(mask, (41, 67)), mask)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_cells_belong_to_a_mask_when_at_least_half_of_them_does(factor):
    coarse = noise((20, 30), 0.5)
    fine = np.kron(coarse, np.ones((factor, factor), bool))
    assert np.array_equal(reduce_mask(fine, (20, 30)), coarse)
    fine[::factor, ::factor] ^= True
    assert np.array_equal(reduce_mask(fine, (20, 30)), coarse), "a pixel of each cell does not matter"
    halves = np.kron(np.ones((1, 4), bool), np.array([[True, False]]))
    assert reduce_mask(halves, (1, 4)).all()
