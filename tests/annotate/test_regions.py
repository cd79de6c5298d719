import random
from dataclasses import replace

import numpy as np
import pytest

from vlalign.annotate.regions import annotate_split, image_regions, random_box, read_regions
from vlalign.data.samples import Sample, encode_png
from vlalign.data.splits import write_split
from vlalign.errors import VlalignError
from vlalign.files import read_json
from vlalign.params import RegionsParams

PARAMS = RegionsParams(boxes=5, seed=0)


def labels(seed, size=(20, 30)):
    """Overlapping objects 1, 2 and 4; 3 is hidden by the others."""
    rng = np.random.default_rng(seed)
    result = np.zeros(size, np.uint8)
    result[2:9, 3:12] = 3
    result[1:10, 2:14] = 1
    result[8:16, 10:25] = np.where(rng.random((8, 15)) > 0.3, 2, result[8:16, 10:25])
    result[19, 29] = 4
    return result


def sample(index, *, instances=True):
    picture = np.random.default_rng(index).integers(0, 256, (20, 30, 3), np.uint8)
    return Sample(f"k{index}", encode_png(picture), instances=encode_png(labels(index)) if instances else None)


@pytest.fixture
def annotated(tmp_path):
    samples = [sample(0), sample(1), sample(2, instances=False)]
    write_split(tmp_path / "split", samples, source={}, shard_size=2)
    annotate_split(tmp_path / "split", tmp_path / "regions", PARAMS)
    return tmp_path / "regions"


def test_masks_come_back_as_they_were(annotated):
    found = read_regions(annotated)
    assert list(found) == ["k0", "k1", "k2"]
    for index in (0, 1):
        masks = found[f"k{index}"].masks(kinds=["mask"])
        expected = [labels(index) == instance for instance in (1, 2, 4)]
        assert masks.dtype == bool
        assert np.array_equal(masks, expected), "one per visible object, in the order of the ids"


def test_boxes_are_full_rectangles_inside_the_picture(annotated):
    for image in read_regions(annotated).values():
        boxes = [region for region in image.regions if region.kind == "box"]
        for box, mask in zip(boxes, image.masks(kinds=["box"]), strict=True):
            assert 0 <= box.left < box.right <= 30
            assert 0 <= box.top < box.bottom <= 20
            expected = np.zeros((20, 30), bool)
            for row in range(box.top, box.bottom):
                for column in range(box.left, box.right):
                    expected[row, column] = True
            assert np.array_equal(mask, expected)


def test_kinds_come_in_the_order_asked_for_and_no_more_than_count(annotated):
    image = read_regions(annotated)["k0"]
    masks, boxes = image.masks(kinds=["mask"]), image.masks(kinds=["box"])
    assert (len(masks), len(boxes)) == (3, 5)
    assert np.array_equal(image.masks(kinds=["mask", "box"]), [*masks, *boxes])
    assert np.array_equal(image.masks(kinds=["box", "mask"], count=6), [*boxes, masks[0]])
    assert np.array_equal(image.masks(kinds=["mask", "box"], count=2), masks[:2])


def test_an_image_without_objects_has_boxes_alone(annotated):
    image = read_regions(annotated)["k2"]
    assert image.masks(kinds=["mask"]).shape == (0, 20, 30)
    assert len(image.masks(kinds=["mask", "box"])) == 5


def test_boxes_depend_on_seed_and_key_alone():
    def boxes(of, params=PARAMS):
        return [region for region in image_regions(of, params).regions if region.kind == "box"]

    one = boxes(sample(0))
    assert boxes(sample(0)) == one
    assert boxes(replace(sample(1), key="k0")) == one
    assert boxes(sample(0, instances=False)) == one
    assert boxes(sample(0), RegionsParams(boxes=3, seed=0)) == one[:3], "fewer boxes are the first ones"
    assert boxes(replace(sample(0), key="k1")) != one
    assert boxes(sample(0), RegionsParams(boxes=5, seed=1)) != one


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (96, 96)])
def test_no_box_is_empty(size):
    rng = random.Random(0)
    for _ in range(500):
        box = random_box(rng, height=size[0], width=size[1])
        assert 0 <= box.left < box.right <= size[1]
        assert 0 <= box.top < box.bottom <= size[0]


def test_the_manifest_counts_the_regions_by_kind(annotated):
    manifest = read_json(annotated / "manifest.json")
    assert manifest["regions"] == {"mask": 6, "box": 15}
    assert [shard["images"] for shard in manifest["shards"]] == [2, 1]


def test_the_same_split_gives_the_same_bytes(annotated, tmp_path):
    annotate_split(tmp_path / "split", tmp_path / "again", PARAMS)
    for path in annotated.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_missing_file_is_named(annotated):
    (annotated / "000001.parquet").unlink()
    with pytest.raises(VlalignError, match=r"000001\.parquet .*missing; delete"):
        read_regions(annotated)
