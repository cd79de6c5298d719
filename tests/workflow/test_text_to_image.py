"""CS-Aligner's text to image with tiny towers and decoders, from scenes to the report."""

import json
import re

import pytest
import tiny_decoders
import torch
import yaml
from repository import PROJECT, jobs, new_repository
from safetensors.torch import save_file

from vlalign import models
from vlalign.evaluation.metrics import read_folder
from vlalign.freshness import KINDS, imports, modules, reachable
from vlalign.params import load

OVERLAYS = ("cs-aligner-t2i", "cs-aligner-t2i-kandinsky", "cs-aligner-t2i-sd-unclip")
ARMS = ("t2i-cs", "t2i-cs-lora")
COMMAND = ("snakemake", "--cores", "2", "--configfile", "config/paper/cs-aligner-t2i.yaml", "small.yaml", "--", "all")
ADAPTERS = {"dimension": tiny_decoders.WIDTH, "hidden": 8, "layers": 1}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_texts_are_adapted_to_the_width_of_the_decoders_image_encoder(overlay):
    import open_clip

    params = load(PROJECT / "params.yaml", PROJECT / "config" / "paper" / f"{overlay}.yaml")
    for run in params.generation.runs:
        model = params.all_runs[run].params.model
        assert model.adapters.sides == "text"
        assert model.adapters.dimension == open_clip.get_model_config(model.tower)["embed_dim"]
        assert open_clip.get_pretrained_cfg(model.tower, model.pretrained)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The recipe with scenes, and a tiny Karlo on a tiny CLIP."""
    repository = new_repository(tmp_path_factory.mktemp("generating") / "project")
    torch.manual_seed(0)
    clip = models.create(tiny_decoders.TOWER, pooling="default").clip
    weights = repository.root / "clip.safetensors"
    save_file({name: value.contiguous() for name, value in clip.state_dict().items()}, weights)
    tiny_decoders.save_decoder(repository.root / "karlo", "karlo", clip.visual)
    small = {
        "dataset": "scenes",
        "runs": {"arms": list(ARMS)},
        "annotate": {"parser": {"source": "train", "package": "default"}},
        "model": {"tower": tiny_decoders.TOWER, "pretrained": str(weights)},
        "train": {"epochs": 1, "batch_size": 8},
        "runtime": {"workers": 0, "parts": 1},
        "arms": {"t2i-nce": {"model": {"adapters": ADAPTERS}}, "t2i-cs-lora": {"model": {"adapters": ADAPTERS}}},
        "evaluation": {"benchmarks": ["retrieval"]},
        "models": {"judge": {"tower": tiny_decoders.TOWER, "pretrained": None, "pooling": "default"}},
        "generation": {"runs": list(ARMS), "decoder": {"model": "karlo", "steps": 2}, "captions": 12},
    }
    (repository.root / "small.yaml").write_text(yaml.safe_dump(small))
    return repository


def test_pictures_are_generated_of_each_run_before_the_report(repository):
    planned = repository.run(COMMAND[0], "--dry-run", *COMMAND[1:])
    assert {f"generate run={run}, seed=0" for run in ARMS} <= jobs(planned)
    (inputs,) = re.findall(r"^rule report:\n    input: (.*)$", planned, flags=re.MULTILINE)
    assert all(f"results/runs/{run}/seed-0/generation/generation.json" in inputs.split(", ") for run in ARMS)
    (inputs,) = re.findall(r"^rule generate:\n    input: (.*t2i-cs/.*)$", planned, flags=re.MULTILINE)
    assert "../karlo/decoder/diffusion_pytorch_model.safetensors" in inputs.split(", ")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_recipe_goes_through_every_rule(repository):
    repository.run(*COMMAND)
    root = repository.root / "paper"
    for run in ARMS:
        _, found = read_folder(root / "results/runs" / run / "seed-0/generation")
        assert {row.metric for row in found["generation"].rows} == {"fid_efficientnet_lite0", "clip_score"}
    page = (root / "results/report.html").read_text()
    assert "Pictures from captions" in page
    assert "FID (EfficientNet-Lite0)" in page
    assert (root / "results/figures/generated.svg").read_text().count("<image") == 6 * (2 + len(ARMS))
    assert (root / "results/tables/generation.csv").is_file()
    assert "Nothing to be done" in repository.run(*COMMAND)
    assert "0 files to mend" in repository.attempt("vlalign", "check", "paper").stdout
    plugins = [name for name in imports() if name.rpartition(".")[0] in KINDS.values()]
    known = modules("generate") | reachable(imports(), *plugins)
    records = [json.loads(path.read_text()) for path in repository.imports.glob("*.json")]
    seen = [set(record["modules"]) for record in records if record["arguments"][1:2] == ["generate"]]
    assert seen
    assert all(one <= known for one in seen)
