import random

import numpy as np
import pytest
from skimage import data as photographs

from vlalign.annotate.regions import annotation as regions
from vlalign.annotate.regions.annotation import RegionFile, annotate_split, image_regions
from vlalign.annotate.regions.segmenters.none import NoSegments
from vlalign.annotate.regions.segmenters.superpixels import SuperpixelSegments
from vlalign.data.samples import Sample, decode_image, encode_png
from vlalign.data.shards.manifest import write_split
from vlalign.errors import VlalignError
from vlalign.files import read_json
from vlalign.params import RegionsParams
from vlalign.records import read_record

PARAMS = RegionsParams()


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


def read_regions(folder):
    """Key -> regions, of all files that the manifest names."""
    files = [RegionFile(folder / shard["name"]) for shard in read_record(folder / "manifest.json")["shards"]]
    return {file[row].key: file[row] for file in files for row in range(len(file))}


@pytest.fixture
def split(tmp_path):
    samples = [sample(0), sample(1), Sample("cat", encode_png(photographs.chelsea()[::2, ::2]))]
    write_split(tmp_path / "split", samples, source={}, shard_size=2)
    return tmp_path / "split"


@pytest.fixture
def annotated(split, tmp_path):
    annotate_split(split, tmp_path / "regions", PARAMS)
    return tmp_path / "regions"


def test_object_masks_come_back_as_they_were(annotated):
    found = read_regions(annotated)
    assert list(found) == ["k0", "k1", "cat"]
    for index in (0, 1):
        masks = found[f"k{index}"].masks()
        expected = [labels(index) == instance for instance in (1, 2, 4)]
        assert masks.dtype == bool
        assert np.array_equal(masks, expected), "one per visible object, in the order of the ids"


def test_images_without_object_masks_are_segmented(annotated):
    found = read_regions(annotated)["cat"]
    assert (found.height, found.width) == (85, 128)
    assert 5 <= len(found.regions) <= 16
    areas = found.masks().mean((1, 2))
    assert list(areas) == sorted(areas, reverse=True)


def test_no_segmenter_leaves_an_image_without_regions(split, tmp_path):
    annotate_split(split, tmp_path / "regions", RegionsParams(segments=NoSegments()))
    assert read_regions(tmp_path / "regions")["cat"].masks(4).shape == (0, 85, 128)
    manifest = read_record(tmp_path / "regions" / "manifest.json")
    assert (manifest["regions"], manifest["images_without_regions"]) == (6, 1)


def test_segments_take_the_place_of_own_masks_where_these_are_not_wanted(split, annotated, tmp_path):
    annotate_split(split, tmp_path / "found", RegionsParams(own_masks=False))
    ours, found = read_regions(annotated), read_regions(tmp_path / "found")
    assert found["cat"] == ours["cat"]
    find = SuperpixelSegments().load(side=PARAMS.side)
    for index in (0, 1):
        [expected] = find([decode_image(sample(index).image)])
        assert np.array_equal(found[f"k{index}"].masks(), expected)
    assert read_record(tmp_path / "found" / "manifest.json")["params"]["own_masks"] is False
    assert "own_masks" not in read_record(annotated / "manifest.json")["params"], "files of before are not made again"


def test_something_must_be_found_in_the_place_of_own_masks():
    with pytest.raises(ValueError, match="own_masks: false leaves no regions"):
        RegionsParams(own_masks=False, segments=NoSegments())


def test_the_first_masks_are_taken_or_others_are_drawn(annotated):
    found = read_regions(annotated)["cat"]
    every = found.masks()
    assert np.array_equal(found.masks(3), every[:3])
    drawn = [found.masks(3, random.Random(seed)) for seed in range(30)]
    assert np.array_equal(drawn[0], found.masks(3, random.Random(0)))
    for masks in drawn:
        places = [next(i for i, whole in enumerate(every) if np.array_equal(whole, mask)) for mask in masks]
        assert len(set(places)) == 3
    seen = {int(np.packbits(mask).sum()) for masks in drawn for mask in masks}
    assert len(seen) == len(every), "every mask has its turn"
    assert len(found.masks(99, random.Random(0))) == len(every)


def test_coarse_grids_keep_the_place_of_a_mask():
    instances = np.zeros((300, 600), np.uint8)
    instances[100:200, 150:450] = 1
    whole = Sample("a", encode_png(np.zeros((300, 600, 3), np.uint8)), instances=encode_png(instances))
    found = image_regions(whole, decode_image(whole.image), side=60)
    assert (found.height, found.width) == (30, 60)
    expected = np.zeros((30, 60), bool)
    expected[10:20, 15:45] = True
    assert np.array_equal(found.masks()[0], expected)


def test_a_file_has_its_shard_s_images_in_order(annotated):
    file = RegionFile(annotated / "000000.arrow")
    assert file.keys.to_pylist() == [file[row].key for row in range(len(file))] == ["k0", "k1"]


def test_a_model_is_loaded_only_where_it_is_needed(split, annotated, monkeypatch):
    monkeypatch.setattr(SuperpixelSegments, "load", None)
    annotate_split(split, annotated, PARAMS)
    (annotated / "000000.arrow").unlink()
    with pytest.raises(TypeError):
        annotate_split(split, annotated, PARAMS)


def test_the_manifest_counts(annotated):
    manifest = read_record(annotated / "manifest.json")
    assert [shard["images"] for shard in manifest["shards"]] == [2, 1]
    assert manifest["regions"] == sum(len(image.regions) for image in read_regions(annotated).values())
    assert manifest["images_without_regions"] == 0
    assert 0 < manifest["bytes"] < sum(path.stat().st_size for path in annotated.glob("*.arrow"))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def test_parts_and_a_gathering_call_give_what_one_call_gives(split, annotated, tmp_path):
    for part in ("1-of-2", "0-of-2"):
        annotate_split(split, tmp_path / "again", PARAMS, part=part)
        assert read_json(tmp_path / "again" / "parts" / f"{part}.json") == {"shards": 1}
    assert not (tmp_path / "again" / "manifest.json").exists()
    annotate_split(split, tmp_path / "again", PARAMS)
    assert files(annotated) == files(tmp_path / "again")


def test_finished_shards_are_kept_and_changed_ones_made_again(split, annotated, monkeypatch):
    made, write = [], regions.write_regions
    monkeypatch.setattr(regions, "write_regions", lambda path, *a, **k: made.append(path.name) or write(path, *a, **k))
    annotate_split(split, annotated, PARAMS)
    assert made == []
    (annotated / "000001.arrow").write_bytes(b"half a file")
    (annotated / ".000001.arrow.x.tmp").write_bytes(b"of a process that was killed")
    annotate_split(split, annotated, PARAMS)
    assert made == ["000001.arrow"]
    assert not list(annotated.glob(".*"))
    annotate_split(split, annotated, RegionsParams(side=64))
    assert made[1:] == ["000000.arrow", "000001.arrow"]
    write_split(split, [sample(5)], source={})
    annotate_split(split, annotated, RegionsParams(side=64))
    assert made[3:] == ["000000.arrow"]
    assert sorted(path.name for path in annotated.glob("*.arrow")) == ["000000.arrow"]


def test_a_missing_file_is_named(annotated):
    (annotated / "000001.arrow").unlink()
    with pytest.raises(VlalignError, match=r"000001\.arrow cannot be read .*; delete"):
        read_regions(annotated)


@pytest.mark.parametrize("part", ["2-of-2", "x", "0-of-0", "-1-of-2"])
def test_a_part_that_is_none_is_an_error(split, tmp_path, part):
    with pytest.raises(VlalignError, match="K-of-N"):
        annotate_split(split, tmp_path / "regions", PARAMS, part=part)
