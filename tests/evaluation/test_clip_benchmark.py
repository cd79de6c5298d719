"""On the same data and model, every number equals CLIP_benchmark's: that of its functions, and of its command."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import open_clip
import pytest
import torch
from annotated_scenes import write_annotated
from clip_benchmark.datasets.builder import build_dataset
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from clip_benchmark.models import load_clip
from PIL import Image
from safetensors.torch import save_file
from training_runs import TOWER, run_config, train_below
from typer.testing import CliRunner

from vlalign import cli
from vlalign.data.samples import Sample
from vlalign.data.shards.manifest import write_split
from vlalign.evaluation.benchmark import known_benchmarks
from vlalign.evaluation.workbench import Workbench
from vlalign.models.opened import open_model
from vlalign.params.cards import EvaluatedModel
from vlalign.training.data.inputs import Inputs

# NumPy 2.4 makes no number of an array with one entry, as CLIP_benchmark 1.6 does: this is `float` within that module.
MEND = "import numpy, clip_benchmark.metrics.zeroshot_classification as m; m.float = lambda x: numpy.asarray(x).item()"
RANKS = (1, 5, 10)
WAYS = {"image_to_text": "text_retrieval", "text_to_image": "image_retrieval"}
CLASSES = ("dog", "red fox", "house cat", "tree", "boat", "crane")
WORDS = ("red", "green", "old", "wet", "dog", "boat", "tree", "house", "on", "under", "the", "a", "two", "of")
# flickr8k is a name that CLIP_benchmark takes for a set of retrieval.
SETS = {"flickr8k": "zeroshot_retrieval", "animals": "zeroshot_classification"}


def picture(rng, number):
    """Two colours with noise, of any shape, in each format; some were taken with the camera on its side."""
    height, width = rng.integers(24, 80, 2)
    array = rng.random((height, width, 3)) * 60 + rng.integers(0, 196, 3)
    array[: height // 2] = rng.integers(0, 256, 3)
    form, stream, exif = ("PNG", "JPEG", "WEBP")[number % 3], io.BytesIO(), Image.Exif()
    exif[0x0112] = 6 if number % 4 == 1 else 1
    Image.fromarray(array.astype(np.uint8)).save(stream, form, **({"exif": exif} if form == "JPEG" else {}))
    return stream.getvalue(), form.lower().replace("jpeg", "jpg")


def write_data(folder):
    rng = np.random.default_rng(0)
    pairs, labelled = [], []
    for number in range(60):
        image, suffix = picture(rng, number)
        captions = tuple(" ".join(rng.choice(WORDS, 6)) for _ in range(1 + number % 4))
        pairs.append(Sample(f"p{number:03d}", image, captions, suffix=suffix))
        image, suffix = picture(rng, number)
        labelled.append(Sample(f"c{number:03d}", image, label=int(rng.integers(len(CLASSES))), suffix=suffix))
    write_split(folder / "test", pairs, source={}, shard_size=25, needs=("image", "captions"))
    names = {"classnames.txt": "\n".join(CLASSES) + "\n"}
    names["zeroshot_classification_templates.txt"] = "a photo of a {c}\nthe {c}.\n{c}\n"
    write_split(folder / "zeroshot/test", labelled, source={}, needs=("image", "label"), files=lambda: names)


def export(folder, output):
    """As a user does."""
    for split, name in (("test", "flickr8k"), ("zeroshot/test", "animals")):
        options = ["--split", split, "--data", str(folder), "--output", str(output / name), "--shard-size", "25"]
        result = CliRunner().invoke(cli.app, ["export-shards", *options])
        assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, what is exported of them, and two models: a stock one of random weights, and a run of ours."""
    root = tmp_path_factory.mktemp("agreement")
    write_data(root / "data")
    export(root / "data", root / "sets")
    torch.manual_seed(5)
    (root / "stock").mkdir()
    stock = {**TOWER, "vision_cfg": {**TOWER["vision_cfg"], "pool_type": "tok"}}
    save_file(open_clip.CLIP(**stock).state_dict(), root / "stock" / "open_clip_model.safetensors")
    preprocess = {"mean": [0.4] * 3, "std": [0.3] * 3, "interpolation": "bilinear"}
    config = json.dumps({"model_cfg": stock, "preprocess_cfg": preprocess})
    (root / "stock" / "open_clip_config.json").write_text(config)
    write_annotated(root, images=12)
    run = run_config(steps=6, batch_size=6)
    run["params"]["model"] = {"tower": TOWER, "pooling": "default"}
    train_below(root, run, Inputs(root / "split", root / "phrases", root / "regions"), output="run")
    return root


MODELS = ("stock", "run")


def measured_here(place, model):
    """What CLIP_benchmark calls each number, and how many of how many that is."""
    encoder = open_model(EvaluatedModel(folder=str(place / model))).encoder
    bench, known = Workbench(encoder, place / "data", batch_size=16), known_benchmarks()
    rows = [row for name in ("retrieval", "zeroshot") for row in known[name](known[name].Params()).rows(bench, "test")]
    of = {row.metric: row for row in rows if row.stratum == row.group == "all"}
    found = {f"{WAYS[way]}_recall@{k}": of[f"{way}_r{k}"] for way in WAYS for k in RANKS}
    numbers = {name: (row.value * row.n / 100, row.n) for name, row in found.items()}
    for name, metric in (("acc1", "accuracy"), ("acc5", "accuracy_5")):
        numbers[name] = (of[metric].value * of[metric].n / 100, of[metric].n)
    return numbers | {"mean_per_class_recall": (of["class_mean"].value / 100 * len(CLASSES), len(CLASSES))}


def check_equal(ours, theirs):
    """Counts are compared: CLIP_benchmark rounds its shares to single precision."""
    for name, (hits, total) in ours.items():
        assert theirs[name] * total == pytest.approx(hits, abs=1e-4), name


@pytest.mark.parametrize("model", MODELS)
def test_numbers_equal_those_of_clip_benchmarks_functions(place, model, monkeypatch):
    monkeypatch.setattr(zeroshot_classification, "float", lambda x: np.asarray(x).item(), raising=False)
    theirs, transform, tokenizer = load_clip("open_clip", f"local-dir:{place / model}", "", None, "cpu")
    loaders = {}
    for name, task in SETS.items():
        root = str(place / "sets" / name)
        data = build_dataset(f"wds/{name}", root=root, transform=transform, split="test", task=task)
        loaders[name] = torch.utils.data.DataLoader(data.batched(16), batch_size=None)
    theirs.eval()
    classes, templates = (getattr(loaders["animals"].dataset, what) for what in ("classes", "templates"))
    plain = {"device": "cpu", "amp": False}
    found = zeroshot_retrieval.evaluate(theirs, loaders["flickr8k"], tokenizer, recall_k_list=list(RANKS), **plain)
    found |= zeroshot_classification.evaluate(theirs, loaders["animals"], tokenizer, classes, templates, **plain)
    ours = measured_here(place, model)
    assert {total for _, total in ours.values()} == {60, 150, len(CLASSES)}
    # One class for all pictures would be right for one class of all.
    assert 0 < ours["acc1"][0] < 60
    assert ours["mean_per_class_recall"][0] != 1
    check_equal(ours, found)


@pytest.mark.slow
def test_numbers_equal_those_of_clip_benchmarks_command(place, tmp_path):
    code = f"{MEND}; from clip_benchmark.cli import main; main()"
    command = [sys.executable, "-c", code, "eval", "--no_amp", "--split", "test"]
    command += ["--dataset", *(f"wds/{name}" for name in SETS), "--dataset_root", f"{place}/sets/{{dataset}}"]
    command += ["--pretrained_model", *(f"local-dir:{place / model},{model}" for model in MODELS)]
    command += ["--recall_k", *map(str, RANKS), "--num_workers", "0", "--batch_size", "16"]
    command += ["--output", f"{tmp_path}/{{dataset}}-{{pretrained}}.json"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for model in MODELS:
        found = {}
        for name, task in SETS.items():
            content = json.loads((tmp_path / f"{name}-{model}.json").read_text())
            assert content["task"] == task
            found |= content["metrics"]
        check_equal(measured_here(place, model), found)
