import json
from pathlib import Path

import pytest
from annotated_scenes import write_annotated

from vlalign.training.loop import Inputs

REPOSITORY = Path(__file__).parents[2]
TOWER = json.loads((REPOSITORY / "config" / "towers" / "test.json").read_text())


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Forty annotated scenes."""
    root = tmp_path_factory.mktemp("annotated")
    write_annotated(root, images=40)
    return Inputs(root / "split", root / "phrases", root / "regions")


@pytest.fixture
def config():
    """A run with every term of the objective, as the workflow hands it over."""

    def make(**train):
        params = {
            "model": {"tower": TOWER},
            "train": {"steps": 8, "batch_size": 8, "checkpoint_every": 3, "log_every": 2, **train},
            "objective": {"powerset": {"weight": 1.0, "aggregator": "sampled"}, "cs": {"weight": 0.1}},
        }
        return {"run": "test", "arm": "test", "ablation": None, "params": params}

    return make
