"""One bit of any file that a step reads is flipped: that is noticed or harmless, and never gives another result."""

import random

import pytest
import torch
from workspace import ANNOTATIONS, DATA, RUN

from vlalign import models
from vlalign.annotate.phrases.phrase_files import read_phrases
from vlalign.annotate.phrases.stanza_models import read_model_manifest
from vlalign.annotate.regions.annotation import RegionFile
from vlalign.data.shards.split import Split, read_split
from vlalign.errors import VlalignError
from vlalign.evaluation.hard_negatives import read_category
from vlalign.evaluation.metrics import read_collected, read_metrics
from vlalign.evaluation.workbench import Workbench
from vlalign.records import check_record, read_record, write_record
from vlalign.reporting.results import read_run
from vlalign.training.checkpoint import Checkpoints

FLIPS = 200


def samples(root):
    split = root / DATA / "train"
    known = Split(split)
    pictures = [known.open(0).image(row) for row in range(len(known))]
    return known.most_captions, pictures, [(s.key, s.members(), s.captions, s.label) for s in read_split(split)]


def regions(root):
    found = Split(root / DATA / "train").annotations(root / ANNOTATIONS / "regions/train", RegionFile, rule="regions")
    rows = [found.find(sample) for sample in range(len(found.split))]
    return [file[row].masks().tolist() for file, row in rows]


def phrases(root):
    return read_phrases(root / ANNOTATIONS / "phrases/train")


def weights(root):
    encoder = models.load(root / RUN)
    return encoder.pooling, encoder.preprocess, {k: v.numpy().tobytes() for k, v in encoder.state_dict().items()}


def history(root):
    return read_run(root / RUN).record, (root / RUN / "history.csv").read_bytes()


def classes(root):
    return Workbench(models.DualEncoder, root / DATA).classes("test")


def hard_negatives(root):
    check_record(root / DATA / "composition/test/manifest.json")
    return read_category(root / DATA / "composition/test/swap_object.json")


def vouched(record, name):
    def read(root):
        check_record(root / record)
        return ((root / record).parent / name).read_bytes()

    return read


def checkpoint(root):
    """None stands for a checkpoint that is passed over."""
    folder = next((root / "checkpoints/powerclip/seed-0/kept").iterdir())
    identity = read_record(root / "identity.json")
    state = Checkpoints(folder, identity=identity).load()
    return state and {name: value.numpy().tobytes() for name, value in state["encoder"].items()}


KEPT = "checkpoints/powerclip/seed-0/kept/*/step-00000003.pt"
KINDS = {
    "shard": (f"{DATA}/train/000000.tar", samples),
    "index": (f"{DATA}/train/index/000000.arrow", samples),
    "manifest of a split": (f"{DATA}/train/manifest.json", samples),
    "list of shards": ("shards.json", lambda root: read_record(root / "shards.json")),
    "phrases": (f"{ANNOTATIONS}/phrases/train/000000.arrow", phrases),
    "manifest of phrases": (f"{ANNOTATIONS}/phrases/train/manifest.json", phrases),
    "regions": (f"{ANNOTATIONS}/regions/train/000000.arrow", regions),
    "manifest of regions": (f"{ANNOTATIONS}/regions/train/manifest.json", regions),
    "parser": ("data/parser/en/pos/tiny.pt", lambda root: read_model_manifest(root / "data/parser")),
    "manifest of the parser": ("data/parser/manifest.json", lambda root: read_model_manifest(root / "data/parser")),
    "weights": (f"{RUN}/model.safetensors", weights),
    "config of the towers": (f"{RUN}/open_clip_config.json", weights),
    "run": (f"{RUN}/run.json", history),
    "history": (f"{RUN}/history.csv", history),
    "metrics": (f"{RUN}/metrics/retrieval.json", lambda root: read_metrics(root / RUN)),
    "evaluation": (f"{RUN}/metrics/evaluation.json", lambda root: read_metrics(root / RUN)),
    "collected metrics": ("results/metrics.json", lambda root: read_collected(root / "results/metrics.json")),
    "precision": ("results/precision.csv", vouched("results/precision.csv.json", "precision.csv")),
    "figure": ("results/figures/similarity.svg", vouched("results/figures/illustrations.json", "similarity.svg")),
    "class list": (f"{DATA}/zeroshot/classnames.txt", classes),
    "templates": (f"{DATA}/zeroshot/zeroshot_classification_templates.txt", classes),
    "hard negatives": (f"{DATA}/composition/test/swap_object.json", hard_negatives),
    "checkpoint": (KEPT, checkpoint),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_noticed_or_harmless(workspace, kind):
    pattern, read = KINDS[kind]
    write_record(workspace / "shards.json", {"shards": [{"name": "0.tar", "sha256": "0" * 64}], "source": {}})
    kept = next(workspace.glob(KEPT))
    write_record(workspace / "identity.json", torch.load(kept, weights_only=True)["identity"])
    [path] = workspace.glob(pattern)
    content, whole = path.read_bytes(), read(workspace)
    draw, noticed = random.Random(kind), 0
    for position in (draw.randrange(8 * len(content)) for _ in range(FLIPS)):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            found = read(workspace)
        except VlalignError:
            noticed += 1
        else:
            noticed += found is None
            assert found is None or found == whole, f"bit {position} of {path.name} gives another result in silence"
        for renamed in path.parent.glob("damaged-*"):
            renamed.unlink()
    assert noticed > FLIPS / 2
    path.write_bytes(content)
    assert read(workspace) == whole
