import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vlalign.annotate.regions.annotation import annotate_split
from vlalign.annotate.regions.colour_patches import Superpixels, segment
from vlalign.annotate.regions.segmenters.superpixels import SuperpixelSegments
from vlalign.data.samples import Sample
from vlalign.data.shards.manifest import write_split
from vlalign.params import RegionsParams
from vlalign.records import read_record

PARAMS = SuperpixelSegments(segmenter="superpixels")
FIND = Superpixels(PARAMS, side=128)


def fitted(picture, side):
    """At most `side` pixels long."""
    smaller = picture.copy()
    smaller.thumbnail((side, side))
    return smaller


def jpeg(picture):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def landscape(size=(300, 200)):
    """A sky that grows lighter, a meadow, a sun and a house, all with noise; and the masks of the four."""
    width, height = size
    rng = np.random.default_rng(0)
    picture = np.zeros((height, width, 3))
    picture[:] = np.linspace([70, 110, 200], [150, 190, 240], height)[:, None]
    things = {}
    for name, colour in (("meadow", (60, 140, 50)), ("sun", (250, 220, 80)), ("house", (150, 60, 50))):
        canvas = Image.new("1", size)
        draw = ImageDraw.Draw(canvas)
        if name == "sun":
            draw.ellipse([220, 15, 270, 65], fill=1)
        else:
            draw.rectangle([0, 130, width, height] if name == "meadow" else [40, 80, 110, 160], fill=1)
        things[name] = np.asarray(canvas)
        picture[things[name]] = colour
    things["meadow"] = things["meadow"] & ~things["house"]
    things["sky"] = ~np.any(list(things.values()), 0)
    noisy = picture + rng.normal(0, 6, picture.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), things


def test_things_of_a_colour_are_found_whole():
    picture, things = landscape()
    masks = Superpixels(PARAMS.model_copy(update={"regions": 4}), side=300)([picture])[0]
    for name, thing in things.items():
        overlap = max((mask & thing).sum() / (mask | thing).sum() for mask in masks)
        assert overlap > 0.9, f"the {name} is not one segment: {overlap:.2f}"


def test_an_outline_counts_for_more_than_a_slow_change_of_colour():
    """The ground has the mean colour of the sky, which grows from dark to light."""
    grey = np.tile(np.linspace(40, 220, 180), (120, 1))
    grey[80:] = 130
    noisy = grey + np.random.default_rng(0).normal(0, 3, grey.shape)
    picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    masks = Superpixels(PARAMS.model_copy(update={"regions": 2}), side=180)([picture])[0]
    ground = np.zeros(grey.shape, bool)
    ground[80:] = True
    assert len(masks) == 2
    assert (masks[0] == ~ground).mean() > 0.97
    assert (masks[1] == ground).mean() > 0.97


def test_segments_of_a_photograph_are_several_large_and_apart(photographs):
    found = dict(zip(photographs, FIND(list(photographs.values())), strict=True))
    assert 1 <= len(found.pop("hubble_deep_field")) < 8, "few of its stars are as large as a patch"
    for name, masks in found.items():
        areas = masks.mean((1, 2))
        assert 8 <= len(masks) <= 16, name
        assert masks.sum(0).max() == 1, f"{name}: they do not overlap"
        assert areas.sum() > 0.9, f"{name}: they cover nearly all"
        assert areas[0] > 5 * areas[-1], f"{name}: they are of various sizes"
        assert (np.diff(areas) <= 0).all(), f"{name}: the largest comes first"
        assert areas[-1] >= PARAMS.min_area


def test_the_same_pictures_have_the_same_segments_whatever_stands_beside_them(photographs):
    pictures = [fitted(photographs[name], 200) for name in ("coffee", "rocket", "china")]
    together, again = FIND(pictures), FIND(pictures[::-1])[::-1]
    for one, other in zip(together, again, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("side", [32, 128, 192, 500])
def test_masks_lie_on_the_grid(photographs, side):
    picture = fitted(photographs["coffee"], 240)
    masks = Superpixels(PARAMS, side=side)([picture])[0]
    assert masks.dtype == bool
    assert masks.shape[2:] == (min(side, 240),)
    assert len(masks) >= 8


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 500), (500, 1), (13, 7)])
def test_pictures_of_any_size_are_divided(size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    labels = segment(Image.fromarray(noise), PARAMS)
    assert labels.max() < 16
    assert FIND([Image.fromarray(noise)])[0].shape[1:] == tuple(min(128, length) for length in size)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_pictures_of_any_mode_are_divided(photographs, mode):
    picture = fitted(photographs["coffee"], 200).convert(mode)
    assert len(FIND([picture])[0]) >= 8


def test_an_even_picture_has_no_segments():
    assert FIND([Image.new("RGB", (60, 40), "teal")])[0].shape == (0, 40, 60)


def test_no_more_regions_than_asked_for(photographs):
    labels = segment(photographs["china"], PARAMS.model_copy(update={"regions": 5}))
    assert sorted(np.unique(labels)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("side", [224, 640])
def test_ten_segments_of_a_photograph_take_at_most_a_kilobyte(photographs, tmp_path, side):
    pictures = {name: picture for name, picture in photographs.items() if name != "hubble_deep_field"}
    samples = (Sample(name, jpeg(fitted(picture, side)), suffix="jpg") for name, picture in pictures.items())
    write_split(tmp_path / "split", samples, source={})
    params = RegionsParams(segments=PARAMS.model_copy(update={"count": 10}))
    annotate_split(tmp_path / "split", tmp_path / "regions", params)
    manifest = read_record(tmp_path / "regions" / "manifest.json")
    assert manifest["regions"] == 10 * len(pictures)
    assert manifest["bytes"] / len(pictures) <= 1024
