import pytest
from repository import Repository, new_repository


def pytest_collection_modifyitems(items):
    """The longest files come first: with `--dist loadfile` each worker begins with one of them."""
    longest = ("test_two_front_doors.py", "test_nothing_is_lost.py")
    items.sort(key=lambda item: longest.index(item.path.name) if item.path.name in longest else len(longest))


@pytest.fixture(scope="session")
def fresh(tmp_path_factory) -> Repository:
    """Nothing has run here."""
    return new_repository(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Repository:
    """`snakemake all` on a fresh clone."""
    repository = new_repository(tmp_path_factory.mktemp("finished"))
    repository.run("snakemake", "--cores", "2", "all")
    return repository


@pytest.fixture(scope="session")
def reproduced(finished, tmp_path_factory) -> tuple[Repository, str]:
    """`dvc repro` after that, its record committed, and what it printed."""
    repository = finished.copy(tmp_path_factory.mktemp("reproduced") / "clone")
    printed = repository.run("dvc", "repro")
    repository.commit("Record results")
    return repository, printed


@pytest.fixture
def finished_copy(finished, tmp_path) -> Repository:
    return finished.copy(tmp_path / "clone")


@pytest.fixture
def recorded(reproduced) -> Repository:
    """Shared by the tests: they may add to it, not change what is there."""
    return reproduced[0]


@pytest.fixture
def recorded_copy(recorded, tmp_path) -> Repository:
    return recorded.copy(tmp_path / "clone")
