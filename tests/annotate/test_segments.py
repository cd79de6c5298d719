import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from vlalign.annotate.regions.colour_patches import Superpixels
from vlalign.annotate.regions.segmenters.none import NoSegments
from vlalign.annotate.regions.segmenters.superpixels import SuperpixelSegments
from vlalign.annotate.regions.segments import select
from vlalign.params import AnySegmenter, SegmentFilters

ALL = {"count": 100, "min_area": 0, "max_area": 1, "max_overlap": 1}


def squares(*sides, size=10):
    """Masks of squares in the upper left corner."""
    masks = np.zeros((len(sides), size, size), bool)
    for mask, side in zip(masks, sides, strict=True):
        mask[:side, :side] = True
    return masks


def chosen(masks, scores=None, **filters):
    """Which of the masks are kept, as positions; all of them differ."""
    scores = np.ones(len(masks)) if scores is None else np.array(scores)
    kept = select(masks, scores, SegmentFilters(**{**ALL, **filters}))
    assert kept.dtype == bool
    return [int(np.flatnonzero((masks == mask).all((1, 2)))[0]) for mask in kept]


def test_larger_masks_come_first():
    assert chosen(squares(3, 9, 1, 5), [0.1, 0.2, 0.9, 0.8]) == [1, 3, 0, 2]


def test_equally_large_masks_come_by_score_then_as_they_were():
    rows = np.eye(4, dtype=bool)[:, :, None].repeat(4, 2)
    assert chosen(rows, [0.5, 0.9, 0.5, 0.7]) == [1, 3, 0, 2]


def test_masks_outside_the_limits_of_area_are_dropped():
    masks = squares(1, 2, 5, 9, 10)
    assert chosen(masks, min_area=0.04) == [4, 3, 2, 1], "an area at the limit is within it"
    assert chosen(masks, max_area=0.81) == [3, 2, 1, 0]
    assert chosen(masks, min_area=0.3, max_area=0.5) == []


def test_of_two_that_overlap_the_one_with_the_higher_score_is_kept():
    masks = squares(9, 10, 4)
    assert chosen(masks, [0.9, 0.8, 0.7], max_overlap=0.8) == [0, 2], "81 % of 10 x 10 are 9 x 9"
    assert chosen(masks, [0.8, 0.9, 0.7], max_overlap=0.8) == [1, 2]
    assert chosen(masks, [0.8, 0.9, 0.7], max_overlap=0.82) == [1, 0, 2]


def test_a_mask_that_was_dropped_drops_no_other():
    masks = squares(10, 8, 7)
    assert chosen(masks, [0.9, 0.8, 0.7], max_overlap=0.6) == [0, 2], "the second overlaps both, the third only it"


def test_the_smallest_go_where_there_are_too_many():
    assert chosen(squares(3, 9, 1, 5), count=2) == [1, 3]


def test_empty_masks_and_none_at_all_leave_none():
    assert chosen(np.zeros((2, 4, 4), bool)) == []
    assert select(np.zeros((0, 4, 6), bool), np.zeros(0), SegmentFilters()).shape == (0, 4, 6)


def test_holes_and_specks_are_left_alone():
    mask = np.ones((1, 20, 20), bool)
    mask[0, 5:8, 5:8] = mask[0, 0, 1] = False
    assert np.array_equal(select(mask, np.ones(1), SegmentFilters(max_area=1)), mask)


def test_params_choose_the_segmenter():
    assert NoSegments().load(side=128) is None
    found = SuperpixelSegments(regions=3).load(side=20)
    assert isinstance(found, Superpixels)
    assert (found.params.regions, found.side) == (3, 20)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"segmenter": "magic"}, "'none', 'sam', 'superpixels'"),
        ({"segmenter": "superpixels", "points": 3}, "points"),
        ({"segmenter": "superpixels", "regions": 0}, "regions"),
        ({"segmenter": "sam", "min_iou": 1.5}, "min_iou"),
        ({"segmenter": "sam", "min_area": 0.5, "max_area": 0.5}, "min_area must be below max_area"),
    ],
)
def test_mistakes_in_the_params_name_the_key(params, named):
    with pytest.raises(ValidationError, match=named):
        TypeAdapter(AnySegmenter).validate_python(params)
