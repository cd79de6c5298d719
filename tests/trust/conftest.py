import shutil

import pytest
from workspace import write_workspace


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """A workspace that no test changes."""
    root = tmp_path_factory.mktemp("workspace")
    write_workspace(root)
    return root


@pytest.fixture
def workspace(written, tmp_path):
    shutil.copytree(written, tmp_path / "workspace")
    return tmp_path / "workspace"
