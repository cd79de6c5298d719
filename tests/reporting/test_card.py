import json
import shutil

import open_clip
import pytest
import tiny_transformers
import torch
from annotated_scenes import write_annotated
from training_runs import TOWER, run_config, train_below
from typer.testing import CliRunner

import vlalign
from vlalign.cli import app
from vlalign.errors import VlalignError
from vlalign.reporting.card import model_card, write_card
from vlalign.training.inputs import Inputs

METRICS = {
    "retrieval": {"all": {"image_to_text_r1": 43.21, "text_to_image_r1": 40.0, "images": 50}},
    "modality": {"mean_distance": 0.1234},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a text tower of Hugging Face, whose tokenizer is on disk, and one with CLIP's."""
    root = tmp_path_factory.mktemp("runs")
    write_annotated(root, images=12)
    inputs = Inputs(root / "split", root / "phrases", root / "regions")
    name = tiny_transformers.write(root / "bert", "bert")
    text = {"hf_model_name": name, "hf_model_pretrained": False, "hf_proj_type": "linear", "context_length": 16}
    text["tokenizer_kwargs"] = {"clean": "lower"}
    for output, tower in (("clip", TOWER), ("bert", {**TOWER, "text_cfg": text})):
        config = run_config(steps=2, batch_size=4)
        config["params"]["model"] = {"tower": tower}
        train_below(root, config, inputs, output=output)
        (root / output / "metrics").mkdir()
        for benchmark, scores in METRICS.items():
            (root / output / "metrics" / f"{benchmark}.json").write_text(json.dumps(scores))
    return root


def test_the_card_says_what_the_run_is_and_what_was_measured(trained):
    write_card(trained / "clip")
    card = (trained / "clip" / "README.md").read_text()
    assert card.startswith("---\ntags:\n- clip\n")
    assert "1 × InfoNCE + 1 × the powerset loss of PowerCLIP (sampled) + 0.1 × the Cauchy-Schwarz divergence" in card
    assert "| Image → text R@1 | 43.2 | 2.0 |" in card
    assert "| Modality gap | 0.123 |  |" in card
    assert "2 steps of 4 pairs" in card
    assert "its text embeddings are others, so use vlalign's" in card
    write_card(trained / "bert")
    assert "open_clip gives the same embeddings" in (trained / "bert" / "README.md").read_text()


def test_a_run_that_was_not_measured_has_no_card(trained, tmp_path):
    shutil.copytree(trained / "clip", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "metrics")
    with pytest.raises(VlalignError, match="evaluate the run first"):
        write_card(tmp_path / "run")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """In place of the network: the repository is a folder."""

    def commit(_, repository, operations, **options):
        for operation in operations:
            target = tmp_path / repository / operation.path_in_repo
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(operation.path_or_fileobj, target)

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda _, name, **options: f"hub/{name}")
    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", commit)
    return tmp_path


def test_a_pushed_run_is_a_repository_that_open_clip_and_vlalign_load(trained, hub):
    write_card(trained / "bert")
    printed = CliRunner().invoke(app, ["push", str(trained / "bert"), "user/name"])
    assert printed.output.strip() == "hub/user/name"
    repository = hub / "user" / "name"
    names = {path.name for path in repository.iterdir()}
    assert names >= {"README.md", "open_clip_model.safetensors", "open_clip_config.json", "tokenizer.json", "run.json"}
    assert "# Model card for test-seed-0" in (repository / "README.md").read_text()

    encoder, again = vlalign.load(trained / "bert"), vlalign.load(repository)
    tokens = encoder.tokenizer(["a red dog"])
    theirs = open_clip.create_model_and_transforms(f"local-dir:{repository}")[0].eval()
    with torch.no_grad():
        expected = encoder.encode_text(tokens).embedding_CD
        assert torch.equal(again.encode_text(tokens).embedding_CD, expected)
        assert torch.allclose(theirs.encode_text(tokens, normalize=True), expected, atol=1e-5)


def test_what_is_no_measured_run_is_not_pushed(hub, tmp_path):
    result = CliRunner().invoke(app, ["push", str(tmp_path), "user/name"])
    assert "lacks model.safetensors, open_clip_config.json, README.md" in str(result.exception)


def test_the_card_needs_a_run(tmp_path):
    with pytest.raises(VlalignError, match=r"run\.json does not exist"):
        model_card(tmp_path)
