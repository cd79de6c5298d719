import pytest
from annotated_scenes import write_annotated
from training_runs import run_config

from vlalign.training.data.inputs import Inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Twenty annotated scenes."""
    root = tmp_path_factory.mktemp("annotated")
    write_annotated(root, images=20)
    return Inputs(root / "split", root / "phrases", root / "regions")


@pytest.fixture
def config():
    return run_config
