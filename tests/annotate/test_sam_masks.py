"""Tiny models with random weights: their masks mean nothing, so that every one is accepted."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from scipy.optimize import linear_sum_assignment
from tiny_sam import KINDS, save_tiny

from vlalign.annotate.regions import sam_masks
from vlalign.annotate.regions.sam_masks import SamSegmenter, load, point_grid
from vlalign.annotate.regions.segmenters.sam import SamSegments
from vlalign.errors import VlalignError

ANY = {"points": 4, "min_iou": 0, "min_stability": 0, "min_area": 0, "max_area": 1, "max_overlap": 1, "count": 500}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folder of a tiny model of each kind."""
    root = tmp_path_factory.mktemp("sam")
    return {kind: str(save_tiny(kind, root / kind)) for kind in KINDS}


@pytest.fixture(scope="session")
def pictures(photographs):
    """A wide, a tall and a larger one."""
    sizes = {"coffee": (60, 40), "astronaut": (50, 90), "flower": (200, 130)}
    return [photographs[name].resize(size) for name, size in sizes.items()]


def segmenter(folder, *, side=100, **params):
    return SamSegmenter(SamSegments(segmenter="sam", model=folder, **{**ANY, **params}), side=side, device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_have_the_same_masks_alone_and_in_a_batch(folders, pictures, kind):
    find = segmenter(folders[kind], side=48)
    together = find(pictures)
    assert [masks.shape[1:] for masks in together] == [(32, 48), (48, 27), (31, 48)]
    for picture, masks in zip(pictures, together, strict=True):
        assert masks.dtype == bool
        assert len(masks) > 10
        assert len(np.unique(masks, axis=0)) > 10, "they differ"
        assert np.array_equal(find([picture])[0], masks)
    assert together[0].shape[0] == together[1].shape[0] == 4 * 4 * 3, "three of each point, when any is accepted"


@pytest.mark.parametrize(
    ("kind", "size"), [("Sam", (60, 40)), ("Sam", (40, 60)), ("SamHQ", (60, 40)), ("Sam2", (50, 50))]
)
def test_masks_are_those_of_the_library_s_own_generator(folders, pictures, kind, size):
    """On pictures of which it takes the points of the whole; it enlarges masks twice, which blurs random ones."""
    picture = pictures[0].resize(size)
    ours = segmenter(folders[kind])([picture])[0]
    generate = hf.pipeline("mask-generation", model=folders[kind], device="cpu")
    everything = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "crops_nms_thresh": 1.0}
    theirs = np.stack([np.asarray(mask) for mask in generate(picture, points_per_crop=4, **everything)["masks"]])
    assert theirs.shape == ours.shape
    differ = (ours[:, None] != theirs).mean((2, 3))
    rows, columns = linear_sum_assignment(differ)
    assert differ.mean() > 0.25, "random masks differ much"
    assert differ[rows, columns].max() < 0.06


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(60, 30), (30, 60)])
def test_points_cover_the_whole_picture_evenly(folders, kind, size, monkeypatch):
    find = segmenter(folders[kind])
    seen = []
    forward = find.model.forward
    monkeypatch.setattr(find.model, "forward", lambda **given: seen.append(given["input_points"]) or forward(**given))
    find([Image.new("RGB", size)])
    width, height = (64, 64) if kind == "Sam2" else (64 * size[0] / 60, 64 * size[1] / 60)
    x, y = torch.cat(seen, 1)[0, :, 0].T
    assert sorted(set(x.tolist())) == [width * part / 8 for part in (1, 3, 5, 7)]
    assert sorted(set(y.tolist())) == [height * part / 8 for part in (1, 3, 5, 7)]


def test_points_are_x_then_y_and_differ():
    points = point_grid(3)
    assert points.shape == (9, 2)
    assert len(points.unique(dim=0)) == 9
    assert torch.allclose(points[1] - points[0], torch.tensor([1 / 3, 0.0]))


def test_points_decoded_at_once_change_nothing(folders, pictures, monkeypatch):
    find = segmenter(folders["Sam2"], points=5)
    whole = find(pictures[:1])[0]
    monkeypatch.setattr(sam_masks, "POINTS", 7)
    assert np.array_equal(find(pictures[:1])[0], whole)


def scored(find, logits, scores):
    """Positions of candidates R H W that pass."""
    return find._sure(torch.tensor(logits), torch.tensor(scores)).nonzero().flatten().tolist()


def test_candidates_pass_by_expected_quality_and_by_stability(folders):
    logits = np.full((3, 10, 10), -5.0)
    logits[:, :5] = 5.0
    logits[1, 5] = 0.5
    scores = [0.9, 0.8, 0.7]
    assert scored(segmenter(folders["Sam"]), logits, scores) == [0, 1, 2]
    assert scored(segmenter(folders["Sam"], min_iou=0.75), logits, scores) == [0, 1]
    assert scored(segmenter(folders["Sam"], min_stability=0.9), logits, scores) == [0, 2], "50 cells of 60 remain"
    assert scored(segmenter(folders["Sam"], min_stability=0.8), logits, scores) == [0, 1, 2]


def test_stability_is_measured_no_coarser_than_the_model_s_masks_are(folders, pictures, monkeypatch):
    find = segmenter(folders["Sam2"], side=6)
    seen = []
    sure = find._sure
    monkeypatch.setattr(find, "_sure", lambda logits, scores: seen.append(logits.shape) or sure(logits, scores))
    masks = find(pictures[:1])[0]
    assert [tuple(shape[1:]) for shape in seen] == [(11, 16)], "its masks have 16 x 16 cells"
    assert masks.shape[1:] == (4, 6)


def test_a_picture_without_any_mask_is_no_error(folders, pictures):
    found = segmenter(folders["Sam2"], min_iou=1)(pictures)
    assert [masks.shape for masks in found] == [(0, 40, 60), (0, 90, 50), (0, 65, 100)]


def test_masks_pass_the_filters(folders, pictures):
    find = segmenter(folders["Sam"], max_overlap=0.5, min_area=0.2, max_area=0.8, count=3)
    masks = find(pictures[:1])[0]
    areas = masks.mean((1, 2))
    assert 1 <= len(masks) <= 3
    assert (np.diff(areas) <= 0).all()
    assert areas.min() >= 0.2
    assert areas.max() <= 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_gives_nearly_the_same_masks(folders, pictures, kind):
    exact, rough = (segmenter(folders[kind], autocast=how)(pictures[:1])[0] for how in ("none", "bf16"))
    assert exact.shape == rough.shape
    differ = (exact[:, None] != rough).mean((2, 3))
    rows, columns = linear_sum_assignment(differ)
    assert 0 < differ[rows, columns].mean() < 0.1


def test_params_choose_it(folders):
    found = SamSegments(segmenter="sam", model=folders["Sam"]).load(side=33, device="cpu")
    assert isinstance(found, SamSegmenter)
    assert found.side == 33
    assert not found.model.training


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(VlalignError, match=r"install the extra `segment`"):
        load("absent", "main")


@pytest.fixture
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("_offline")
def test_a_model_out_of_reach_is_named_with_its_key():
    with pytest.raises(VlalignError, match=r"regions\.segments\.model no-one/nothing \(revision v1\) cannot be loaded"):
        load("no-one/nothing", "v1")


def test_the_revision_is_the_one_asked_for(monkeypatch):
    asked = []

    def refuse(*names, **options):
        asked.append((names, options["revision"]))
        raise OSError("no")

    monkeypatch.setattr(hf.AutoModelForMaskGeneration, "from_pretrained", refuse)
    with pytest.raises(VlalignError, match="no"):
        load("someone/something", "abc")
    assert asked == [(("someone/something",), "abc")]


def test_a_model_that_is_no_sam_is_named(tmp_path):
    hf.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(VlalignError, match=r"cannot be loaded as a SAM \(Unrecognized configuration"):
        load(str(tmp_path), "main")


def test_damaged_weights_are_named(folders, tmp_path):
    for path in Path(folders["Sam"]).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 5000 if path.suffix == ".safetensors" else None])
    with pytest.raises(VlalignError, match="cannot be loaded as a SAM"):
        load(str(tmp_path), "main")
