from types import SimpleNamespace

import pytest
import tiny_decoders
import torch
import yaml
from annotated_scenes import PARAMS, write_pairs
from fetching import empty_hub
from generating_runs import MODEL, settings

from vlalign import models
from vlalign.data.scenes.dataset import split_samples
from vlalign.params import ModelParams


@pytest.fixture(scope="session")
def generating(tmp_path_factory):
    """A folder of the workflow: scenes, a run with a random text adapter, and a decoder of each kind on its tower."""
    root = tmp_path_factory.mktemp("generating")
    write_pairs(root / "data" / "scenes" / "test", split_samples("test", 14, PARAMS))
    torch.manual_seed(0)
    encoder = models.build(ModelParams.model_validate(MODEL)).eval()
    torch.nn.init.normal_(encoder.adapters.text.get_parameter("mlp.4.weight"))
    run = root / "results" / "runs" / "adapted" / "seed-0"
    models.save(encoder, run)
    for kind in tiny_decoders.KINDS:
        tiny_decoders.save_decoder(root / "decoders" / kind, kind, encoder.clip.visual)
    (root / "params.yaml").write_text(yaml.safe_dump(settings("stable-unclip")))
    return SimpleNamespace(root=root, run=run, encoder=encoder, split=root / "data" / "scenes" / "test")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with empty_hub(monkeypatch, tmp_path / "cache") as server:
        yield server
