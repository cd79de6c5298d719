"""A run of average pooling as a model that open_clip's own pooling reads alike."""

import json
import shutil

import open_clip
import pytest
import tiny_transformers
import torch
from annotated_scenes import write_annotated
from training_runs import TOWER, run_config, train_below
from typer.testing import CliRunner

from vlalign import cli, models
from vlalign.errors import VlalignError
from vlalign.models.averaging import averaging
from vlalign.models.export import export_model
from vlalign.records import check_record, read_record
from vlalign.training.data.inputs import Inputs

TEXT = TOWER["text_cfg"]
CAPTIONS = ["a dog", "two red cats above a green house", "", " ".join(["dog"] * 60), "! !! a, b; c.", "日本 の 犬"]
CHANGES = {
    "plain": {},
    "no wider than the joint space": {"width": 16, "heads": 4},
    "layer scale": {"ls_init_value": 0.3},
    "other norm, other layers": {"norm_kwargs": {"eps": 1e-3}, "mlp_ratio": 3.0, "layers": 3},
    "no projection": {"width": 24, "heads": 3, "proj_type": "none"},
}


def encoder(text=None, *, quick=False, width=16, seed=0):
    """Random, the biases and norms as well, which start as zeros and ones."""
    torch.manual_seed(seed)
    config = {**TOWER, "embed_dim": width, "text_cfg": {**TEXT, **(text or {})}, "quick_gelu": quick}
    found = models.create(config, pooling="average")
    for parameter in found.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return found.eval()


def pictures():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def embeddings(model, ids):
    if isinstance(model, models.DualEncoder):
        return model.encode_image(pictures()).embedding_ID, model.encode_text(ids).embedding_CD
    return model.encode_image(pictures(), normalize=True), model.encode_text(ids, normalize=True)


def most(ones, others):
    return [(one - other).abs().max().item() for one, other in zip(ones, others, strict=True)]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_open_clip_gives_the_average_of_all_real_tokens(tmp_path, change, quick):
    text = CHANGES[change]
    ours = encoder(text, quick=quick, width=text.get("width", 16))
    models.save(averaging(ours), tmp_path)
    theirs = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(CAPTIONS)
    image, words = most(embeddings(theirs, ids), embeddings(ours, ids))
    assert (image, words) == pytest.approx((0, 0), abs=1e-6)
    # What open_clip makes of the run itself is far from that.
    assert most(embeddings(ours.clip, ids), embeddings(ours, ids))[1] > 0.1
    assert theirs.visual.preprocess_cfg["mean"] == ours.preprocess["mean"]


@pytest.mark.parametrize("factor", [1e-2, 1e3])
def test_what_the_tokens_were_before_leaves_no_trace(factor):
    """The residual stream may be far larger than in any tower that was trained."""
    ours = encoder()
    ours.clip.text.token_embedding.weight.data *= factor
    ids = ours.tokenizer(CAPTIONS)
    assert most(embeddings(averaging(ours), ids), embeddings(ours, ids))[1] < 2e-6 * max(1, factor / 100)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_costs_what_it_costs_the_run(kind):
    ours, ids = encoder(), models.create(TOWER, pooling="average").tokenizer(CAPTIONS)
    exact = embeddings(ours, ids)[1]
    with torch.autocast("cpu", dtype=kind):
        plain, exported = (embeddings(model, ids)[1].float() for model in (ours, averaging(ours)))
    assert (exported - exact).abs().max() < 4 * (plain - exact).abs().max()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            {"embed_cls": True},
            "must be one of open_clip's own, with a causal mask, CLIP's tokenizer and no class token",
        ),
        ({"no_causal_mask": True}, "with a causal mask"),
        ({"pool_type": "last"}, "must be one of open_clip's own"),
        ({"proj_bias": True}, "its projection has a bias"),
        ({"block_type": "custom"}, "its layers are custom ones"),
    ],
)
def test_towers_in_which_no_layer_can_average_are_named(text, message):
    with pytest.raises(VlalignError, match=message):
        averaging(encoder(text))


def test_an_image_tower_without_average_pooling_in_open_clip_is_named(tmp_path):
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
    models.save(models.create({**TOWER, "vision_cfg": vision}, pooling="average"), tmp_path / "run")
    with pytest.raises(VlalignError, match="run: open_clip has no average pooling for this image tower"):
        export_model(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_of_no_use_is_not_written(tmp_path):
    plain = encoder()
    plain.clip.text.token_embedding.weight.data[:] = float("nan")
    models.save(plain, tmp_path / "run")
    with pytest.raises(VlalignError, match="run: its embeddings are not finite"):
        export_model(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(VlalignError, match=r"config\.json cannot be made, since .* is no folder; give another path"):
        export_model(tmp_path / "run", tmp_path / "run/open_clip_config.json")


def test_a_model_that_open_clip_reads_alike_stays_as_it_is(tmp_path):
    name = tiny_transformers.write(tmp_path / "bert", "bert")
    text = {"hf_model_name": name, "hf_model_pretrained": False, "hf_proj_type": "linear", "context_length": 16}
    for number, (config, pooling) in enumerate([(TOWER, "default"), ({**TOWER, "text_cfg": text}, "average")]):
        run, output = tmp_path / f"run{number}", tmp_path / f"out{number}"
        models.save(models.create(config, pooling=pooling), run)
        assert export_model(run, output) == 0
        assert (output / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    write_annotated(root, images=12)
    train_below(root, run_config(steps=2, batch_size=4), Inputs(root / "split", root / "phrases", root / "regions"))
    return root / "run"


def test_the_command_writes_a_run_that_vouches_for_itself(run, tmp_path):
    result = CliRunner().invoke(cli.app, ["export-model", str(run), "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert f"open_clip reads local-dir:{tmp_path}/out; embeddings differ" in result.output
    ids = models.load(run).tokenizer(CAPTIONS)
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    assert most(embeddings(theirs, ids), embeddings(models.load(run), ids)) == pytest.approx([0, 0], abs=1e-6)
    assert set(check_record(tmp_path / "out" / "run.json")["files"]) == {"model.safetensors", "open_clip_config.json"}
    assert read_record(tmp_path / "out" / "run.json")["params"] == read_record(run / "run.json")["params"]
    told = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())["vlalign"]
    assert told == {"averages": True, "pooling": "default", "same_in_open_clip": {"image": True, "text": True}}
    again = CliRunner().invoke(cli.app, ["export-model", str(run), "--output", str(tmp_path / "out")])
    assert "out is not empty; give a new folder" in str(again.exception)
    shutil.copy(run / "model.safetensors", tmp_path / "out" / "model.safetensors")
    with pytest.raises(VlalignError, match=r"model\.safetensors is not the file that .*run\.json describes"):
        models.load(tmp_path / "out")


def test_weights_for_which_single_precision_does_not_suffice_are_refused(tmp_path):
    ours = encoder()
    ours.clip.text.token_embedding.weight.data *= 1e9
    models.save(ours, tmp_path / "run")
    with pytest.raises(VlalignError, match=r"its embeddings in open_clip differ by .*; its weights are too large"):
        export_model(tmp_path / "run", tmp_path / "out")
