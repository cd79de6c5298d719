"""The published recipes with one small shard of each repository, from a hub on this machine to the report."""

import io
import re

import numpy as np
import pytest
import yaml
from hub_server import HubServer
from PIL import Image
from repository import PROJECT, new_repository
from tiny_sam import save_tiny

from vlalign.data.samples import Sample
from vlalign.data.scenes.dataset import split_samples
from vlalign.data.shards.tar import write_shard
from vlalign.params import ScenesParams, load
from vlalign.records import read_record

OVERLAYS = ("clip", "powerclip-r", "powerclip-s")
# Tiny towers, few steps and small pictures; every rule and every kind of input is as published.
SMALL = {
    "annotate": {"parser": {"source": "train", "trees": 50, "epochs": 1}},
    "model": {"tower": "config/towers/test.json"},
    "train": {"epochs": 1, "batch_size": 8, "autocast": "none"},
    "runtime": {"workers": 1, "parts": 2, "checkpoint_every": 1, "validate_every": 1},
    "report": {"precision": {"regions": [2], "pairs": 4}},
}


def jpeg(sample):
    stream = io.BytesIO()
    Image.open(io.BytesIO(sample.image)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def shard(folder, name, count, *, first=0, label=None):
    """As pixparse and CLIP_benchmark have them: JPEG pictures with captions and what is known of them, or classes."""
    pictures = split_samples("train", first + count, ScenesParams(image_size=48, captions=2, classes=6))
    samples = [
        Sample(
            f"{number:08d}",
            jpeg(sample),
            () if label else sample.captions[:1],
            number % 3 if label else None,
            {"url": "somewhere", "status": "success"},
            suffix="jpg",
        )
        for number, sample in enumerate(pictures)
        if number >= first
    ]
    write_shard(folder / name, samples)
    return (folder / name).read_bytes()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    with HubServer() as server:
        for number, (name, path) in enumerate(
            {
                "pixparse/cc12m-wds": "cc12m-train-{:04d}.tar",
                "pixparse/cc3m-wds": "cc3m-validation-{:04d}.tar",
                "clip-benchmark/wds_mscoco_captions": "test/{}.tar",
            }.items()
        ):
            shards = range(3 if number == 0 else 1)
            first = 100 * number
            files = {path.format(k): shard(folder, "a.tar", 12, first=first + 12 * k) for k in shards}
            server.commit(files, repository=name)
        classes = {
            "test/0.tar": shard(folder, "a.tar", 12, first=400, label=True),
            "classnames.txt": b"dog\ncar\ntree\n",
            "zeroshot_classification_templates.txt": b"a photo of a {c}.\n",
        }
        server.commit(classes, repository="clip-benchmark/wds_imagenet1k", small=list(classes)[1:])
        yield server


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    """A SAM 2 that has learnt nothing; any mask it makes is taken."""
    return save_tiny("Sam2", tmp_path_factory.mktemp("sam"))


def test_the_overlays_differ_in_their_arm_alone():
    overlays = [yaml.safe_load((PROJECT / "config" / "paper" / f"{name}.yaml").read_text()) for name in OVERLAYS]
    arms = [overlay.pop("focus") for overlay in overlays]
    expected = [list(dict.fromkeys((arms[0], arm))) for arm in arms]
    assert [overlay.pop("runs")["arms"] for overlay in overlays] == expected, "each beside the baseline"
    assert overlays[0] == overlays[1] == overlays[2]
    for name, arm in zip(OVERLAYS, arms, strict=True):
        assert arm in load(PROJECT / "params.yaml", PROJECT / "config" / "paper" / f"{name}.yaml").all_runs


def test_the_whole_dag_is_shown(tmp_path):
    repository = new_repository(tmp_path / "project")
    command = ["snakemake", "--dry-run", "--cores", "1", "--configfile", "config/paper/powerclip-s.yaml", "--", "all"]
    planned = repository.run(*command)
    rules = [
        "download",
        "parser",
        "verify_part",
        "verify",
        "phrases_part",
        "phrases",
        "regions_part",
        "regions",
        "pretrain",
        "evaluate",
        "report",
    ]
    assert all(f"rule {rule}:" in planned for rule in rules)
    [inputs] = re.findall(r"^rule illustrate:\n    input: (.*)$", planned, flags=re.MULTILINE)
    assert "data/cc12m/zeroshot/test/manifest.json" in inputs.split(", "), "whose classes are confused"


@pytest.mark.slow
def test_one_shard_goes_through_every_rule(tmp_path, hub, sam, monkeypatch):
    repository = new_repository(tmp_path / "project")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("NO_PROXY", "*")
    segments = {"model": str(sam), "points": 3, "min_iou": 0, "min_stability": 0, "max_overlap": 1}
    # The overlays differ in their arm alone: one DAG has the arms of all of them.
    small = {
        **SMALL,
        "runs": {"arms": ["paper-clip", "paper-powerclip-r", "paper-powerclip-s"]},
        "annotate": {**SMALL["annotate"], "regions": {"segments": segments}},
    }
    (repository.root / "small.yaml").write_text(yaml.safe_dump(small))
    files = ["config/paper/powerclip-s.yaml", "small.yaml"]
    repository.run("snakemake", "--cores", "2", "--configfile", *files, "--", "all")
    root = repository.root / "paper"
    manifest = read_record(root / "data/cc12m/train/manifest.json")
    assert (manifest["samples"], manifest["captions"], len(manifest["shards"])) == (36, 36, 3)
    assert hub.asked()["cc12m-train-0000.tar"] == 1, "fetched once for all arms"
    regions = read_record(root / "data/annotations/cc12m/regions/train/manifest.json")
    assert regions["regions"] > 36
    for arm in ("paper-clip", "paper-powerclip-r", "paper-powerclip-s"):
        folder = root / "results" / "runs" / arm / "seed-0"
        history = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)
        assert history["step"][-1] == 4, "one epoch of 36 pairs"
        assert np.isfinite(history["loss"]).all()
        assert {path.stem for path in (folder / "metrics").glob("*.json")} == {
            "retrieval",
            "zeroshot",
            "modality",
            "evaluation",
        }
        params = read_record(folder / "run.json")["params"]
        assert (params["train"]["epochs"], "steps" in params["train"]) == (1, False)
    assert "paper-powerclip-s" in (root / "results" / "report.html").read_text()
