import csv
import json
from pathlib import Path

import pytest
import torch
from annotated_scenes import write_annotated
from safetensors.torch import load_file

from vlalign.params import RuntimeParams
from vlalign.training.history import MEASURED
from vlalign.training.loop import Inputs
from vlalign.training.pretrain import Places, pretrain

REPOSITORY = Path(__file__).parents[2]
TOWER = json.loads((REPOSITORY / "config" / "towers" / "test.json").read_text())


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Forty annotated scenes, which are their own validation split."""
    root = tmp_path_factory.mktemp("annotated")
    write_annotated(root, images=40)
    return Inputs(root / "split", root / "phrases", root / "regions", root / "split")


RUNTIME = {"checkpoint_every": 3, "log_every": 2, "validate_every": 5}


@pytest.fixture
def train():
    """Carry out a run below a folder; returns its weights."""

    def run(config, inputs, folder, *, seed=0, output="run", **runtime):
        places = Places(folder / output, folder / "checkpoints", folder / "tracking")
        runtime = RuntimeParams(**(RUNTIME | runtime))
        pretrain(config, seed=seed, inputs=inputs, places=places, runtime=runtime)
        return load_file(folder / output / "model.safetensors")

    return run


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def history(folder):
    """The rows of a run's history without what is measured."""
    with open(folder / "history.csv") as stream:
        return [{name: value for name, value in row.items() if name not in MEASURED} for row in csv.DictReader(stream)]


@pytest.fixture
def config():
    """A run with every term of the objective, as the workflow hands it over."""

    def make(**train):
        params = {
            "model": {"tower": TOWER},
            "train": {"steps": 8, "batch_size": 8, **train},
            "objective": {"powerset": {"weight": 1.0, "aggregator": "sampled"}, "cs": {"weight": 0.1}},
        }
        return {"run": "test", "arm": "test", "ablation": None, "params": params}

    return make
