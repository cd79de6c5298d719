"""Runs of adapters on the frozen towers of another run."""

import torch
from training_runs import TOWER

from vlalign import models
from vlalign.params import RunParams


def params(kind="mlp", *, objective=None, **train):
    """A run with adapters on towers of another run."""
    adapters = {"kind": kind, "dimension": 12, "hidden": 24}
    return RunParams.model_validate(
        {
            "model": {"tower": TOWER, "start": "first", "adapters": adapters},
            "train": {"steps": 8, "batch_size": 8, **train},
            "objective": {"cs": {"weight": 0.1}} | (objective or {}),
        }
    )


def write_run(folder, *, seed):
    """A folder with towers of random weights, as a run leaves it."""
    torch.manual_seed(seed)
    folder.mkdir()
    models.save(models.create(TOWER, pooling="average").eval(), folder)
    return folder
