from pathlib import Path

import pytest
from annotated_scenes import write_annotated, write_unpaired
from training_runs import run_config

from vlalign.training.data.inputs import Inputs

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Forty annotated scenes, which are their own validation split, and others without a partner."""
    root = tmp_path_factory.mktemp("annotated")
    write_annotated(root, images=40)
    images, captions = write_unpaired(root / "unpaired")
    return Inputs(root / "split", root / "phrases", root / "regions", root / "split", images, captions)


@pytest.fixture
def config():
    return run_config
