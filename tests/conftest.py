import os
import sys
from pathlib import Path

# Two workers with one thread each beat one with two, and results must not depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "reference"))

import pytest
import torch
from filelock import FileLock
from repository import Repository, new_repository

torch.set_num_threads(1)

# With `--dist loadfile` each worker begins with one of them: what takes longest, and what needs no finished workflow.
FIRST = (
    "test_two_front_doors.py",
    "test_kills.py",
    "test_nothing_is_lost.py",
    "test_paper.py",
    "test_released.py",
    "test_suites.py",
    "test_to_the_report.py",
    "test_stale_code.py",
    "test_photographs.py",
    "test_own_tables.py",
    "test_figure.py",
    "test_benchmark.py",
    "test_new_card.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, request) -> Repository:
    """`snakemake all` on a fresh clone: made once for all workers, and changed by no test."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent
    repository, mark = Repository(folder / "finished"), folder / "finished.mark"
    with FileLock(folder / "finished.lock"):
        if not mark.exists():
            new_repository(repository.root).run("snakemake", "--cores", "2", "all")
            mark.touch()
    return repository


@pytest.fixture
def finished_copy(finished, tmp_path) -> Repository:
    return finished.copy(tmp_path / "clone")
