import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import vlalign
from vlalign import models
from vlalign.errors import VlalignError
from vlalign.models.pictures import preprocess

CONFIG = json.loads((Path(__file__).parents[2] / "config" / "towers" / "test.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    encoder = models.create(CONFIG, pooling="average")
    encoder.set_preprocessing({"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)})
    path = tmp_path_factory.mktemp("run")
    models.save(encoder, path)
    return path


WAYS = [("bicubic", "shortest"), ("bilinear", "shortest"), ("bicubic", "squash")]


@pytest.mark.parametrize(("interpolation", "resize_mode"), WAYS)
@pytest.mark.parametrize("size", [(32, 32), (40, 57), (300, 200), (21, 33)])
def test_open_clip_gives_the_same_embedding_of_the_same_picture(folder, tmp_path, size, interpolation, resize_mode):
    """From the file of a picture on: resizing, cropping and normalisation included."""
    shutil.copytree(folder, tmp_path / "run")
    folder = tmp_path / "run"
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"] |= {"interpolation": interpolation, "resize_mode": resize_mode}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    ours, (theirs, _, transform) = vlalign.load(folder), open_clip.create_model_and_transforms(f"local-dir:{folder}")
    with torch.no_grad():
        expected = theirs.eval().encode_image(transform(picture)[None], normalize=True)
        found = ours.encode_image(preprocess(ours)([picture])).embedding_ID
    assert torch.allclose(found, expected, atol=1e-5)


def test_what_differs_in_open_clip_is_said(folder):
    config = json.loads((folder / "open_clip_config.json").read_text())
    assert config["vlalign"] == {"pooling": "average", "same_in_open_clip": {"image": True, "text": False}}
    assert config["preprocess_cfg"]["mean"] == [0.5, 0.4, 0.3]


def test_a_folder_of_open_clip_alone_is_loaded_with_the_towers_own_pooling(tmp_path):
    """As open_clip pushes them: another name of the weights, text parameters that are no module of their own."""
    torch.manual_seed(0)
    clip = open_clip.CLIP(**CONFIG).eval()
    config = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    from safetensors.torch import save_file

    save_file(clip.state_dict(), tmp_path / "open_clip_model.safetensors")
    encoder = vlalign.load(tmp_path)
    tokens = encoder.tokenizer(["a dog", "two cats"])
    with torch.no_grad():
        assert torch.allclose(encoder.encode_text(tokens).embedding_CD, clip.encode_text(tokens, True), atol=1e-5)
    assert encoder.preprocess["mean"] == [0.5, 0.5, 0.5]
    assert vlalign.load(tmp_path, pooling="average").pooling == "average"


@pytest.mark.slow
def test_importing_the_package_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, vlalign; assert 'torch' not in sys.modules; vlalign.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = vlalign.lode


def test_a_way_of_resizing_that_has_no_equal_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["resize_mode"] = "longest"
    (tmp_path / "run" / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(VlalignError, match=r"preprocess_cfg\.resize_mode is 'longest'; known are shortest, squash"):
        vlalign.load(tmp_path / "run")


def test_what_is_no_model_is_named(folder, tmp_path):
    with pytest.raises(VlalignError, match=r"is no folder of a model: it has no open_clip_config\.json"):
        vlalign.load(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(VlalignError, match=r"config\.json is not valid JSON .*; bring back the file that"):
        vlalign.load(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(VlalignError, match="has no `model_cfg`"):
        vlalign.load(tmp_path)
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    with pytest.raises(VlalignError, match=r"model\.safetensors cannot be loaded"):
        vlalign.load(tmp_path)
    assert vlalign.load(f"local-dir:{folder}").pooling == "average"
