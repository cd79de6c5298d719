import pytest
from repository import Repository, new_repository


@pytest.fixture(scope="session")
def fresh(tmp_path_factory) -> Repository:
    """Nothing has run here."""
    return new_repository(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="session")
def reproduced(finished, tmp_path_factory) -> tuple[Repository, str]:
    """`dvc repro` after that, its record committed, and what it printed."""
    repository = finished.copy(tmp_path_factory.mktemp("reproduced") / "clone")
    printed = repository.run("dvc", "repro")
    repository.commit("Record results")
    return repository, printed


@pytest.fixture
def recorded(reproduced) -> Repository:
    """Shared by the tests: they may add to it, not change what is there."""
    return reproduced[0]


@pytest.fixture
def recorded_copy(recorded, tmp_path) -> Repository:
    return recorded.copy(tmp_path / "clone")
