import math
import random

import numpy as np
import pytest
import torch
from PIL import Image

from vlalign import models
from vlalign.files import read_json
from vlalign.models.pictures import View, coverage, fit, fit_masks, normalise, preprocess
from vlalign.params import AugmentParams


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


def scene(height, width, cells=None):
    """A picture whose pixels tell where they come from, and masks on a grid of cells over it."""
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([columns * 255 / (width - 1), rows * 255 / (height - 1), 0 * rows], -1).round().astype(np.uint8)
    cells = cells or (height, width)
    y, x = np.mgrid[: cells[0], : cells[1]] / np.array(cells)[:, None, None]
    masks = np.stack([(x - 0.4) ** 2 + (y - 0.6) ** 2 < 0.09, (x > 0.3) & (y < 0.5), x + y > 1.1])
    return Image.fromarray(picture), torch.from_numpy(masks)


def warped(seen, masks):
    """Each pixel of the view shows where it comes from: its mask is what the masks hold there."""
    height, width = masks.shape[1:]
    x, y = seen[0].double() / 255, seen[1].double() / 255
    rows = (y * (height - 1)).round().long()
    return masks[:, rows, (x * (width - 1)).round().long()]


@pytest.mark.parametrize("cells", [None, (64, 96)])
@pytest.mark.parametrize(
    "augment",
    [
        AugmentParams(),
        AugmentParams(scale=(0.1, 0.4), ratio=(0.5, 2.0)),
        AugmentParams(scale=(0.3, 0.6), flip=1.0),
        AugmentParams(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.5),
        None,
    ],
)
def test_masks_follow_the_picture_wherever_augmentation_takes_it(repository, augment, cells):
    encoder = models.create(read_json(repository / "config/towers/test.json"), pooling="average")
    encoder.image_size = 96
    view, (picture, masks) = View(encoder, augment), scene(160, 240, cells)
    for seed in range(20):
        seen, moved = view(picture, random.Random(seed), masks)
        assert (seen.shape, moved.shape, moved.dtype) == ((3, 96, 96), (3, 96, 96), torch.bool)
        wrong = moved != warped(seen, masks)
        # The picture is smoothed and the masks are not: they may differ along the outlines, by about a pixel.
        assert wrong.float().mean() < (0.02 if cells is None else 0.035)
        assert not erode(wrong).any()


def erode(x):
    """What is left of regions when three pixels are taken away from their edges."""
    inside = torch.nn.functional.max_pool2d((~x).float()[None], 7, stride=1, padding=3)[0] == 0
    return inside


def test_views_are_functions_of_what_is_drawn(repository):
    encoder = models.create(read_json(repository / "config/towers/test.json"), pooling="average")
    view, (picture, masks) = View(encoder, AugmentParams(scale=(0.1, 0.5))), scene(60, 80)
    before = torch.get_rng_state()
    one, again, other = (view(picture, random.Random(seed), masks) for seed in (1, 1, 2))
    assert torch.equal(one[0], again[0])
    assert torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])
    assert torch.equal(torch.get_rng_state(), before), "training draws what it would have drawn"
    assert torch.equal(view(picture, random.Random(1))[0], one[0]), "masks change nothing"


def test_without_augmentation_a_view_is_what_the_encoder_is_evaluated_with(repository):
    encoder = models.create(read_json(repository / "config/towers/test.json"), pooling="average")
    view, (picture, _) = View(encoder), scene(60, 80)
    assert torch.equal(normalise(view(picture, random.Random(0))[0][None], encoder), preprocess(encoder)([picture]))
