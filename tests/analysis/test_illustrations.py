"""What runs see in photographs: pictures without marked objects, whose regions were found."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from annotated_scenes import words_of, write_phrases

from vlalign import models
from vlalign.analysis.illustrations import PIXELS, ShownRun, scene_similarities, shown_runs
from vlalign.analysis.named_sets import EXPONENT
from vlalign.annotate.phrases.annotation import Constituent
from vlalign.annotate.phrases.trees import Parse
from vlalign.annotate.regions.annotation import RegionFile, annotate_split
from vlalign.data.samples import Sample, decode_image, encode_png
from vlalign.data.shards.manifest import write_split
from vlalign.data.shards.split import Split, read_split
from vlalign.evaluation.workbench import Workbench
from vlalign.models.pictures import preprocess
from vlalign.params import RegionsParams

TOWER = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
CAPTION = "a red wall beside a blue wall"
# The first words of each phrase, and the words after it.
PHRASES = ((0, 3), (4, 7), (3, 7))


def photograph(shade):
    """Twice as wide as high: only the middle, half red and half blue, is what an encoder sees."""
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, :32], image[:, 96:] = (0, shade, 0), (shade, shade, 0)
    image[:, 32:64], image[:, 64:96] = (shade, 0, 0), (0, 0, shade)
    return encode_png(image)


@pytest.fixture
def run(tmp_path):
    """Two photographs after one whose first caption has a single phrase."""
    samples = [Sample(f"k{number}", photograph(200 + number), (CAPTION,)) for number in range(3)]
    write_split(tmp_path / "data/test", samples, source={}, needs=("image", "captions"))
    words = words_of(CAPTION)
    one, three = (Parse(words, tuple(Constituent("NP", *span) for span in spans)) for spans in (PHRASES[:1], PHRASES))
    found = {sample.key: [(CAPTION, one if sample.key == "k0" else three)] for sample in samples}
    write_phrases(tmp_path / "annotations/phrases/test", found)
    annotate_split(tmp_path / "data/test", tmp_path / "annotations/regions/test", RegionsParams())
    torch.manual_seed(0)
    bench = Workbench(models.create(TOWER, pooling="average").eval(), tmp_path / "data", tmp_path / "annotations")
    return ShownRun("run", tmp_path, bench, "test", is_compared=True, is_subject=True)


def test_regions_of_photographs_are_those_that_were_found(run):
    scenes = scene_similarities(run)
    assert len(scenes) == 2, "the first caption of the first picture has one phrase"
    encoder, split = run.bench.encoder, run.bench.data / "test"
    regions = Split(split).annotations(run.bench.annotations / "regions/test", RegionFile, rule="regions")
    samples = list(read_split(split))
    # Both pictures' phrases are the same.
    phrases_PD = centred(phrase_vectors(encoder))
    shown = []
    for row, scene in enumerate(scenes, start=1):
        assert scene.referents is None
        assert scene.exponent == EXPONENT
        assert scene.image.shape == (PIXELS, PIXELS, 3)
        assert (scene.image[9, 9] > 99).tolist() == [True, False, False]
        assert (scene.image[9, -9] > 99).tolist() == [False, False, True]
        assert scene.phrases == ["a red wall", "a blue wall", "beside a blue wall"]
        # Of cells over the whole picture, the middle half of the columns is seen.
        file, place = regions.find(row)
        masks = file[place].masks()
        seen = masks[:, :, masks.shape[2] // 4 : 3 * masks.shape[2] // 4]
        is_seen = seen.any((1, 2))
        assert 2 <= is_seen.sum() < len(masks)
        assert scene.masks.any((1, 2)).tolist() == is_seen.tolist()
        assert np.isneginf(scene.region_similarity[:, ~is_seen]).all()
        with torch.no_grad():
            picture = preprocess(encoder)([decode_image(samples[row].image)])
            patches_VD = encoder.encode_image(picture).patches_IVD[0]
        cover_RV = seen.reshape(len(seen), 4, seen.shape[1] // 4, 4, seen.shape[2] // 4).mean((2, 4)).reshape(-1, 16)
        regions_RD = F.normalize(torch.from_numpy(cover_RV[is_seen]).float() @ patches_VD, dim=-1)
        shown.append((scene, is_seen, regions_RD, F.normalize(patches_VD, dim=-1)))
    means = [torch.cat(rows).mean(0) for rows in list(zip(*shown, strict=True))[2:]]
    for scene, is_seen, *features in shown:
        expected, patches = (phrases_PD @ centred(x, mean).T for x, mean in zip(features, means, strict=True))
        np.testing.assert_allclose(scene.region_similarity[:, is_seen], expected.numpy(), atol=1e-4)
        np.testing.assert_allclose(scene.patch_similarity, patches.numpy(), atol=1e-4)
        assert all(named <= set(is_seen.nonzero()[0].tolist()) for named in scene.named)
        for named, row in zip(scene.named, np.where(is_seen, scene.region_similarity, -1e9), strict=True):
            sums = [row[np.argsort(-row)[:size]].sum() / size**EXPONENT for size in range(1, len(row) + 1)]
            assert named == set(np.argsort(-row)[: 1 + np.argmax(sums)].tolist())


def centred(x, mean=None):
    return F.normalize(x - (x.mean(0) if mean is None else mean), dim=-1)


@torch.no_grad()
def phrase_vectors(encoder):
    """Each word of the caption is one token, after the one that begins the text."""
    tokens_LD = F.normalize(encoder.encode_text(encoder.tokenizer([CAPTION])).tokens_CLD[0, 1:8], dim=-1)
    return F.normalize(torch.stack([tokens_LD[slice(*span)].sum(0) for span in PHRASES]), dim=-1)


def test_photographs_without_regions_are_shown_by_their_patches(run, tmp_path):
    (tmp_path / "annotations/regions/test/manifest.json").unlink()
    for scene in scene_similarities(run):
        assert scene.masks.shape == (0, PIXELS, PIXELS)
        assert scene.region_similarity.shape == (3, 0)
        assert scene.named == [set()] * 3


def test_the_subject_is_the_run_that_is_compared_last(run, tmp_path):
    models.save(run.bench.encoder, tmp_path / "run")
    folders = dict.fromkeys(("powerclip", "cs", "clip"), tmp_path / "run")
    where = {"data": run.bench.data, "annotations": run.bench.annotations, "split": "test"}
    found = list(shown_runs(folders, **where, compared=["clip", "powerclip"]))
    assert [one.name for one in found if one.is_subject] == ["powerclip"]
    assert [one.name for one in found if one.is_compared] == ["powerclip", "clip"]
