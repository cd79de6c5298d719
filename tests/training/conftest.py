from pathlib import Path

import pytest
from annotated_scenes import write_annotated
from training_runs import run_config

from vlalign.training.inputs import Inputs

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Forty annotated scenes, which are their own validation split."""
    root = tmp_path_factory.mktemp("annotated")
    write_annotated(root, images=40)
    return Inputs(root / "split", root / "phrases", root / "regions", root / "split")


@pytest.fixture
def config():
    return run_config
