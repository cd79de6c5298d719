import math

import numpy as np
import pytest
import torch
from PIL import Image

from vlalign import models
from vlalign.data.transforms import coverage, fit, fit_masks, normalise, preprocess
from vlalign.files import read_json


def naive_coverage(masks, grid):
    """Patch by patch; a patch of a grid that does not divide the mask reaches over every pixel it touches."""
    count, height, width = masks.shape
    result = np.zeros((count, grid[0] * grid[1]))
    for region in range(count):
        for row in range(grid[0]):
            for column in range(grid[1]):
                rows = range(row * height // grid[0], math.ceil((row + 1) * height / grid[0]))
                columns = range(column * width // grid[1], math.ceil((column + 1) * width / grid[1]))
                inside = [masks[region, y, x] for y in rows for x in columns]
                result[region, row * grid[1] + column] = sum(inside) / len(inside)
    return result


@pytest.mark.parametrize(("size", "grid"), [((12, 12), (3, 3)), ((8, 12), (4, 3)), ((10, 7), (3, 2)), ((5, 5), (5, 5))])
def test_coverage_equals_a_naive_loop(size, grid):
    masks = np.random.default_rng(0).random((4, *size)) > 0.6
    assert np.allclose(coverage(masks, grid).numpy(), naive_coverage(masks, grid), atol=1e-6)
    assert torch.equal(coverage(torch.from_numpy(masks), grid), coverage(masks, grid))


def test_coverage_of_no_masks_is_empty():
    assert coverage(np.zeros((0, 8, 8), bool), (2, 3)).shape == (0, 6)


@pytest.mark.parametrize("size", [(48, 80), (80, 48), (48, 48), (24, 24), (24, 40)])
def test_pictures_and_masks_move_alike(size):
    blocks = np.random.default_rng(1).random((3, size[0] // 8, size[1] // 8)) > 0.5
    masks = blocks.repeat(8, 1).repeat(8, 2)
    picture = fit(Image.fromarray(masks.transpose(1, 2, 0).astype(np.uint8) * 255), 24)
    moved = fit_masks(torch.from_numpy(masks), 24)
    assert picture.shape == moved.shape == (3, 24, 24)
    assert moved.dtype == torch.bool
    assert torch.equal(picture > 127, moved)


def test_a_picture_of_the_right_size_is_untouched():
    pixels = np.random.default_rng(2).integers(0, 256, (24, 24, 3), np.uint8)
    assert np.array_equal(fit(Image.fromarray(pixels), 24).permute(1, 2, 0).numpy(), pixels)


def test_pictures_are_normalised_with_the_mean_of_their_tower(repository):
    encoder = models.create(read_json(repository / "config/towers/test.json"), pooling="average")
    pixels = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected = (pixels / 255 - np.array(encoder.preprocess["mean"])) / np.array(encoder.preprocess["std"])
    batch = preprocess(encoder)([Image.fromarray(picture) for picture in pixels])
    assert np.allclose(batch.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)
    assert torch.equal(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), encoder), batch)
