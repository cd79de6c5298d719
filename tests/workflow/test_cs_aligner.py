"""CS-Aligner's recipes with tiny towers of the same classes and miniatures of the data sets, through every rule."""

import csv
import json

import miniatures
import numpy as np
import pytest
import tiny_transformers
import yaml
from repository import PROJECT, jobs, new_repository
from safetensors.torch import save_file

from vlalign.data.scenes.dataset import split_samples
from vlalign.evaluation.metrics import read_folder, read_metrics
from vlalign.models import load as load_run
from vlalign.models.towers import create
from vlalign.params import ScenesParams, load
from vlalign.params.cards import read_card
from vlalign.records import read_record

pytestmark = pytest.mark.slow

FEWSHOT, RETRIEVAL = (f"config/paper/cs-aligner-{name}.yaml" for name in ("fewshot", "retrieval"))
SHIPPED = PROJECT / "config" / "benchmarks"
ARMS = ("aligner-cs", "aligner-cs-tokens")


def publish(repository, suites):
    """Miniatures of cards, and the suites of these alone."""
    folder = repository.root / "cards"
    cards = {name: read_card(name, [SHIPPED]) for names in suites.values() for name in names}
    counts = {name: miniatures.publish(card, repository.root / "published", None) for name, card in cards.items()}
    miniatures.write_cards(folder, {name: {"counts": found} for name, found in counts.items()}, SHIPPED)
    (folder / "suites").mkdir()
    for name, names in suites.items():
        suite = yaml.safe_load((SHIPPED / f"suites/{name}.yaml").read_text()) | {"cards": names}
        suite["published"] = {
            method: found
            for method, numbers in suite.get("published", {}).items()
            if (found := {column: number for column, number in numbers.items() if column.split("/")[0] in names})
        }
        if not suite["published"]:
            suite |= {"source": "", "setting": ""}
        (folder / f"suites/{name}.yaml").write_text(yaml.safe_dump(suite))


def run(repository, overlay, small, target):
    (repository.root / "small.yaml").write_text(yaml.safe_dump(small))
    return repository.run("snakemake", "--cores", "2", "--configfile", overlay, "small.yaml", "--", target)


def table(repository, suite):
    records = json.loads((repository.root / f"paper/results/suites/{suite}.json").read_text())["rows"]
    return {(record["model"], record["card"], record["metric"]): record for record in records}


@pytest.mark.exhaustive  # other suites go the same way in test_released.py, and the learners in test_suites.py
def test_few_shots_of_every_learner_reach_the_tables(tmp_path):
    repository = new_repository(tmp_path / "project")
    names = ["coop-eurosat"]
    publish(repository, {"fewshot11": names, "fewshot-adapters": names})
    small = {
        "evaluation": {
            "cards": ["config/benchmarks", "cards"],
            "params": {"few_shot": {"shots": [16], "seeds": [1]}},
        },
        "models": {"openai-clip": {"tower": "config/towers/test.json", "pretrained": None}},
    }
    run(repository, FEWSHOT, small, "suites")
    learners = load(PROJECT / "params.yaml", PROJECT / FEWSHOT).evaluation.params.few_shot.learners
    found = table(repository, "fewshot-adapters")
    for learner in learners:
        record = found["openai-clip", "coop-eurosat", f"{learner.replace('-', '_')}_16_shots/accuracy"]
        assert record["low"] <= record["value"] <= record["high"]
        assert record["chance"] == pytest.approx(100 / miniatures.CLASSES)
    text = (repository.root / "paper/results/suites/fewshot-adapters.md").read_text()
    assert "CS-Aligner, published" in text
    cell = repository.root / "paper/results/models/openai-clip/benchmarks/few-shot/coop-eurosat"
    chosen = {(row.metric, row.group): row.value for row in read_folder(cell)[1]["few-shot"].rows}
    assert chosen["divergence_weight", "adapter_16_shots_seed_1"] == 0
    assert chosen["divergence_weight", "cs_adapter_16_shots_seed_1"] > 0
    assert not (repository.root / "paper/results/runs").exists()
    planned = repository.run("snakemake", "--dry-run", "--configfile", FEWSHOT, "small.yaml", "--", "suites")
    assert "Nothing to be done" in planned


def write_table(folder, columns, *, count=40):
    """Pictures with a caption in each column."""
    (folder / "images").mkdir(parents=True)
    with (folder / "captions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", *columns])
        for sample in split_samples("train", count, ScenesParams(image_size=48, captions=1, classes=6)):
            (folder / "images" / f"{sample.key}.png").write_bytes(sample.image)
            captions = [f"{sample.captions[0]} {number}" for number in range(len(columns))]
            writer.writerow([f"{sample.key}.png", *captions])


def test_adapters_on_frozen_towers_go_through_every_rule(tmp_path):
    repository = new_repository(tmp_path / "project")
    params = load(PROJECT / "params.yaml", PROJECT / RETRIEVAL)
    columns = params.data.train.caption_columns
    write_table(repository.root / "published/cc3m", columns)
    # A timm Transformer and a Llama as those of the recipe, with random weights.
    tower = json.loads((repository.root / "config/towers/vit-l-14-llama-3-8b.json").read_text())
    tower["embed_dim"] = tiny_transformers.SHAPE["hidden_size"]
    name = tiny_transformers.write(tmp_path / "llama", "llama")
    tower["vision_cfg"] |= {"timm_model_name": "test_vit", "timm_model_pretrained": False, "image_size": 160}
    tower["text_cfg"] |= {"hf_model_name": name, "hf_model_pretrained": False, "context_length": 32}
    (repository.root / "tower.json").write_text(json.dumps(tower))
    weights = tmp_path / "towers.safetensors"
    save_file(create(tower, pooling="default").clip.state_dict(), weights)
    model = {"tower": "tower.json", "pretrained": str(weights), "adapters": {"dimension": 12, "hidden": 16}}
    small = {
        # The baseline has the terms of neither, and nothing else.
        "runs": {"arms": list(ARMS)},
        "datasets": {"cc3m": {"hold_out": {"validation": 0.2, "test": 0.3}}},
        "annotate": {"parser": {"source": "train", "trees": 50, "epochs": 1}},
        "train": {"epochs": 1, "batch_size": 8},
        "runtime": {"workers": 0, "parts": 1, "checkpoint_every": 2, "validate_every": 2, "log_every": 1},
        "arms": {"aligner-nce": {"model": model}},
        # What is on the hub is measured elsewhere.
        "evaluation": {"cards": ["config/benchmarks", "cards"], "suites": ["longcaption"]},
        "report": {"precision": {"regions": [2], "pairs": 4}},
    }
    publish(repository, {"longcaption": ["urban1k", "docci"]})
    made = jobs(run(repository, RETRIEVAL, small, "all"))
    assert {job.split()[0] for job in made} >= {
        "pack",
        "verify",
        "features",
        "adapt",
        "measure_run",
        "evaluate",
        "report",
    }
    manifest = read_record(repository.root / "paper/data/cc3m/train/manifest.json")
    assert manifest["captions"] == len(columns) * manifest["samples"]
    for arm in ARMS:
        folder = repository.root / "paper/results/runs" / arm / "seed-0"
        history = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)
        assert np.isfinite(history["loss"]).all()
        assert [term in history.dtype.names for term in ("cs", "cs_tokens")] == [True, arm == ARMS[1]]
        assert {"retrieval", "modality"} <= set(read_metrics(folder))
        encoder = load_run(folder)
        assert type(encoder.clip.text.transformer).__name__ == "LlamaModel"
        assert "joint space of 12 numbers" in (folder / "README.md").read_text()
        for card in ("urban1k", "docci"):
            _, found = read_folder(folder / "benchmarks/retrieval" / card)
            assert {row.metric for row in found["retrieval"].rows} >= {"image_to_text_r1", "text_to_image_r1"}
    rows = (repository.root / "paper/results/tables/suite-longcaption.csv").read_text()
    assert "89.1" in rows, "published"
    assert ARMS[1] in (repository.root / "paper/results/report.html").read_text()
