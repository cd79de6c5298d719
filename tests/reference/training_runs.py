"""Whole runs of the tiny tower of the tests, and how two of them are compared."""

import csv
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from vlalign.params import Run, RunParams, RuntimeParams
from vlalign.training.history import MEASURED
from vlalign.training.pretrain import Places, pretrain

TOWER = json.loads((Path(__file__).parents[2] / "config" / "towers" / "test.json").read_text())
RUNTIME = {"checkpoint_every": 3, "log_every": 2, "validate_every": 5}


# What joins the distributions of every batch; the divergences of a run share it.
EXTRAS = {"captions": "all", "unpaired": {"images": 3, "captions": 5}}
# An objective with every term, and what is learnt or drawn in it.
EVERY_TERM = {
    "powerset": {
        "weight": 1.0,
        "loss": "cross-entropy",
        "aggregator": "sampled",
        "centre": True,
        "cost": "learnt",
        "tau": 0.1,
    },
    "cs": {"weight": 0.5, "sigma": [0.5, 1.0], "token_weight": 0.5, **EXTRAS},
    "mmd": {"weight": 0.5, **EXTRAS},
    "hard_negatives": {"weight": 0.5, "kinds": ["swap"]},
    "gaussian_kl": {"weight": 0.01, **EXTRAS},
    "sliced_wasserstein": {"weight": 5.0, **EXTRAS},
}


def run_config(**train):
    """A run with every term of the objective, as run.json has it."""
    params = {
        "model": {"tower": TOWER},
        "train": {"steps": 8, "batch_size": 8, **train},
        "objective": {"powerset": {"weight": 1.0, "aggregator": "sampled"}, "cs": {"weight": 0.1}},
    }
    return {"run": "test", "arm": "test", "ablation": None, "params": params}


def run_of(config):
    """The same, typed."""
    return Run(config["run"], RunParams.model_validate(config["params"]), config["arm"])


def train_below(folder, config, inputs, *, seed=0, output="run", **runtime):
    """Carry out a run below a folder; returns its weights."""
    run_below(folder, config, inputs, seed=seed, output=output, **runtime)
    return load_file(folder / output / "model.safetensors")


def run_below(folder, config, inputs, *, seed=0, output="run", **runtime):
    places = Places(folder / output, folder / "checkpoints", folder / "tracking")
    pretrain(run_of(config), seed=seed, inputs=inputs, places=places, runtime=RuntimeParams(**(RUNTIME | runtime)))


def nan_at_call(number):
    """A term of the loss that is 0, and NaN when it is computed for the so-manieth time; and the calls so far."""
    calls = []

    def term(*_, **__):
        calls.append(1)
        return torch.tensor(float("nan") if len(calls) == number else 0.0)

    return term, calls


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def history(folder):
    """The rows of a run's history without what is measured."""
    with open(folder / "history.csv") as stream:
        return [{name: value for name, value in row.items() if name not in MEASURED} for row in csv.DictReader(stream)]
